"""The catalog that anyone may read: what a pricing page shows, if BILLHOOK_PUBLIC_CATALOG is on."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha256

from billhook.models import PublicCatalog, PublicPrice, PublicProduct
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.task_groups import SharedTasks

_KEPT = 5.0
"""Seconds for which a process answers from memory: anyone can send any number of requests."""
_MOST_PRODUCTS = 200
_MOST_PRICES = 100  # of a product

_OFFERED = """
SELECT p.product_id, p.name, p.description, p.default_price_id, offered.*
FROM (
    SELECT product_id, name, description, default_price_id FROM payments.stripe_products
    WHERE environment = $1 AND active
    ORDER BY name, product_id LIMIT $2) AS p
CROSS JOIN LATERAL (
    SELECT price_id, currency, unit_amount, unit_amount_decimal, type, lookup_key, billing_scheme,
        tax_behavior, recurring_interval, recurring_interval_count
    FROM payments.stripe_prices AS of_product
    WHERE of_product.environment = $1 AND of_product.product_id = p.product_id AND active
    ORDER BY price_id IS NOT DISTINCT FROM p.default_price_id DESC, currency, unit_amount, price_id
    LIMIT $3) AS offered
ORDER BY p.name, p.product_id, price_id IS NOT DISTINCT FROM p.default_price_id DESC, currency,
    unit_amount, price_id
"""


@dataclass(frozen=True, slots=True)
class Offered:
    """The body of the response, and its entity tag."""

    body: bytes
    tag: str


class PublicCatalogs:
    """The public catalog of both environments."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[Environment, tuple[float, Offered]] = {}
        self._reads = SharedTasks(self._read)

    async def offered(self, environment: Environment) -> Offered:
        """The active products that have active prices, by name, each with its prices: the default
        one first. It may be some seconds old.

        Raises:
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        until, found = self._kept.get(environment, (0.0, None))
        if found is None or _now() >= until:
            found = await self._reads.result(environment)
        return found

    async def _read(self, environment: Environment) -> Offered:
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OFFERED, environment, _MOST_PRODUCTS, _MOST_PRICES)
        products: dict[str, PublicProduct] = {}
        for row in rows:
            values = dict(row)
            if row["product_id"] not in products:
                fields = PublicProduct.model_fields.keys() - {"prices"}
                product = PublicProduct(**{name: values[name] for name in fields}, prices=[])
                products[row["product_id"]] = product
            price = PublicPrice(**{name: values[name] for name in PublicPrice.model_fields})
            products[row["product_id"]].prices.append(price)
        for product in products.values():
            if product.default_price_id not in {each.price_id for each in product.prices}:
                product.default_price_id = None  # it is not active
        body = PublicCatalog(products=list(products.values())).wire()
        offered = Offered(body, f'"{sha256(body).hexdigest()[:32]}"')
        self._kept[environment] = _now() + _KEPT, offered
        return offered


def _now() -> float:
    return asyncio.get_running_loop().time()
