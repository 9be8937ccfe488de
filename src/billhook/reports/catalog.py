"""The catalog: products and prices, read from the mirror, changed in Stripe (contract section 3.2).

A change is sent to Stripe first; Stripe's response is written to the mirror immediately, so that
the next read shows it before its event arrives.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import asyncpg

from billhook.errors import NotFound
from billhook.kinds import PRICE, PRODUCT, Kind
from billhook.mirror import fetching
from billhook.mirror.fetching import reader_of_account
from billhook.models import (
    ArchivedPrice,
    Catalog,
    CreatePrice,
    CreateProduct,
    DeletedProduct,
    Price,
    Product,
    ProductWithPrices,
    Request,
    UpdatePrice,
    UpdateProduct,
)
from billhook.postgres import Database
from billhook.reports.lists.products import PRICE_COLUMNS, PRODUCT_COLUMNS
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject

_PRODUCTS = f"""
SELECT {PRODUCT_COLUMNS} FROM payments.stripe_products WHERE environment = $1
ORDER BY name, product_id
"""  # noqa: S608
_ONE_PRODUCT = f"""
SELECT {PRODUCT_COLUMNS} FROM payments.stripe_products WHERE environment = $1 AND product_id = $2
"""  # noqa: S608
_PRICES = f"""
SELECT {PRICE_COLUMNS} FROM payments.stripe_prices WHERE environment = $1
ORDER BY product_id, price_id
"""  # noqa: S608
_PRICES_OF = f"""
SELECT {PRICE_COLUMNS} FROM payments.stripe_prices WHERE environment = $1 AND product_id = $2
    AND ($3::text IS NULL OR price_id = $3 OR lookup_key = $3)
ORDER BY price_id LIMIT $4
"""  # noqa: S608
_ONE_PRICE = f"""
SELECT {PRICE_COLUMNS} FROM payments.stripe_prices WHERE environment = $1 AND price_id = $2
"""  # noqa: S608


class ProductNotFound(NotFound):
    """404: the mirror has no such product."""

    code = "PAYMENT_PRODUCT_NOT_FOUND"


class PriceNotFound(NotFound):
    """404: the mirror has no such price."""

    code = "PAYMENT_PRICE_NOT_FOUND"


def _is_it_elsewhere(environment: Environment) -> str:
    other = "live" if environment == "test" else "test"
    return (
        f"Does it belong to the {other} environment? If Stripe has it in {environment}, sync first."
    )


async def catalog(database: Database, environment: Environment) -> Catalog:
    """All products and prices, active or not."""
    return Catalog(
        products=await products(database, environment), prices=await prices(database, environment)
    )


async def products(database: Database, environment: Environment) -> list[Product]:
    """All products, by name and id."""
    return [Product(**row) for row in await _rows(database, _PRODUCTS, environment)]


async def prices(
    database: Database, environment: Environment, product_id: str | None = None
) -> list[Price]:
    """All prices, or those of one product, by product and id."""
    rows = (
        await _rows(database, _PRICES, environment)
        if product_id is None
        else await _rows(database, _PRICES_OF, environment, product_id, None, None)
    )
    return [Price(**row) for row in rows]


async def product(
    database: Database,
    environment: Environment,
    product_id: str,
    *,
    price: str | None = None,
    most: int | None = None,
) -> ProductWithPrices:
    """One product with its prices.

    Args:
        price: only the one with this id or lookup key.
        most: only so many prices.

    Raises:
        ProductNotFound: the mirror does not have it.
    """
    found = await _rows(database, _ONE_PRODUCT, environment, product_id)
    if not found:
        raise ProductNotFound(
            f"There is no product {product_id} in the {environment} environment.",
            next_actions=_is_it_elsewhere(environment),
        )
    rows = await _rows(database, _PRICES_OF, environment, product_id, price, most)
    return ProductWithPrices(product=Product(**found[0]), prices=[Price(**row) for row in rows])


async def price(database: Database, environment: Environment, price_id: str) -> Price:
    """One price.

    Raises:
        PriceNotFound: the mirror does not have it.
    """
    found = await _rows(database, _ONE_PRICE, environment, price_id)
    if not found:
        raise PriceNotFound(
            f"There is no price {price_id} in the {environment} environment.",
            next_actions=_is_it_elsewhere(environment),
        )
    return Price(**found[0])


async def create_product(
    database: Database, gateway: Gateway, environment: Environment, order: CreateProduct
) -> Product:
    """Create a product in Stripe. Safe to repeat with an idempotency key.

    Raises:
        PaymentConfigInvalid, RateLimited, UpstreamFailure: Stripe; nothing was changed.
    """
    params = _made_of(order, "name", "description", "active", "metadata")
    key = idempotency_key(environment, "product", order.idempotency_key)
    made = await create_object(database, gateway, environment, PRODUCT, params, key)
    return _product(environment, made)


async def update_product(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    product_id: str,
    order: UpdateProduct,
) -> Product:
    """Change a product in Stripe. Raises as `create_product`; Stripe's 404 for an unknown one."""
    params = _given(order, "name", "description", "active", "metadata")
    changed = await _change(database, gateway, environment, PRODUCT, product_id, params)
    return _product(environment, changed)


async def delete_product(
    database: Database, gateway: Gateway, environment: Environment, product_id: str
) -> DeletedProduct:
    """Delete a product in Stripe, and in the mirror with its prices. Stripe rejects this for
    products in use.

    Raises as `create_product`; Stripe's 404 for an unknown one.
    """
    reader = await reader_of_account(database, gateway, environment)
    path = fetching.path_of(PRODUCT, product_id)
    answer = await gateway.delete(environment, path, key=reader.key)
    deleted = answer.data.get("deleted") is True
    if deleted:
        for each in await prices(database, environment, product_id):
            await fetching.delete(reader, PRICE, each.price_id, answer.at)
        await fetching.delete(reader, PRODUCT, product_id, answer.at)
    return DeletedProduct(product_id=product_id, deleted=deleted)


async def create_price(
    database: Database, gateway: Gateway, environment: Environment, order: CreatePrice
) -> Price:
    """Create a price in Stripe. Safe to repeat with an idempotency key.

    Raises as `create_product`.
    """
    params = {
        "product": order.product_id,
        "currency": order.currency,
        "unit_amount": order.unit_amount,
        **_made_of(order, "lookup_key", "active", "tax_behavior", "metadata"),
    }
    if order.recurring is not None:
        params["recurring"] = _given(order.recurring, "interval", "interval_count")
    key = idempotency_key(environment, "price", order.idempotency_key)
    made = await create_object(database, gateway, environment, PRICE, params, key)
    return _price(environment, made)


async def update_price(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    price_id: str,
    order: UpdatePrice,
) -> Price:
    """Change a price in Stripe. Raises as `create_product`; Stripe's 404 for an unknown one."""
    params = _given(order, "active", "lookup_key", "tax_behavior", "metadata")
    changed = await _change(database, gateway, environment, PRICE, price_id, params)
    return _price(environment, changed)


async def archive_price(
    database: Database, gateway: Gateway, environment: Environment, price_id: str
) -> ArchivedPrice:
    """Archive a price: Stripe cannot delete prices. Raises as `update_price`."""
    changed = await _change(database, gateway, environment, PRICE, price_id, {"active": False})
    archived = _price(environment, changed)
    return ArchivedPrice(price=archived, archived=not archived.active)


async def create_object(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    kind: Kind,
    params: Mapping[str, Any],
    idempotency_key: str | None,
) -> StripeObject:
    """Create in Stripe and mirror it. For a known idempotency key, Stripe repeats the original
    response: the object may have changed or been deleted since, so it is fetched again."""
    reader = await reader_of_account(database, gateway, environment)
    answer = await gateway.post(
        environment, kind.path, params, idempotency_key=idempotency_key, key=reader.key
    )
    if answer.replayed:
        await fetching.refresh(reader, kind, answer.data["id"])
    else:
        await fetching.write_one(reader, kind, answer.data, answer.at)
    return answer.data


async def _change(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    kind: Kind,
    object_id: str,
    params: Mapping[str, Any],
) -> StripeObject:
    reader = await reader_of_account(database, gateway, environment)
    path = fetching.path_of(kind, object_id)
    answer = await gateway.post(environment, path, params, key=reader.key)
    await fetching.write_one(reader, kind, answer.data, answer.at)
    return answer.data


def _product(environment: Environment, found: StripeObject) -> Product:
    return Product.model_validate(_shown(environment, PRODUCT, found))


def _price(environment: Environment, found: StripeObject) -> Price:
    return Price.model_validate(_shown(environment, PRICE, found))


def _shown(environment: Environment, kind: Kind, found: StripeObject) -> dict[str, Any]:
    """The mirrored row of Stripe's response."""
    common = {"environment": environment, "synced_at": datetime.now(UTC)}
    return common | {kind.key: found["id"], **(kind.row(found) or {})}


def _made_of(order: Request, *names: str) -> dict[str, Any]:
    """The given fields of a new object, without nulls."""
    given = {name: getattr(order, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _given(order: Request, *names: str) -> dict[str, Any]:
    """The given fields, in Stripe's form: an empty string removes a value."""
    given = {name: getattr(order, name) for name in names if name in order.model_fields_set}
    return {name: "" if value is None else value for name, value in given.items()}


def idempotency_key(environment: Environment, kind: str, key: str | None) -> str | None:
    """The key that is sent to Stripe for one that the caller chose."""
    if key is None:
        return None
    if not (key.isascii() and key.isprintable()):  # it is sent in a header
        key = sha256(key.encode()).hexdigest()
    return f"insforge:{environment}:{kind}:{key}"


async def _rows(database: Database, query: str, *args: object) -> list[asyncpg.Record]:
    async with database.connection() as connection:
        return await connection.fetch(query, *args)
