"""The demo shop's products, and their ids in Stripe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import asyncpg

SHOP_NAME = "Demo shop"
CURRENCIES = ("usd", "eur", "jpy")
ENVIRONMENT = "test"  # the demo never uses live mode


@dataclass(frozen=True, slots=True)
class Product:
    """A product. `amounts` are in minor units by currency; the yen has none."""

    slug: str
    name: str
    blurb: str
    kind: Literal["item", "plan"]
    amounts: Mapping[str, int]

    @property
    def stripe_id(self) -> str:
        """The product's id in Stripe: fixed, so that seeding twice creates only one."""
        return f"prod_demo_{self.slug}"

    @property
    def picture(self) -> str | None:
        """The path of its picture in the shop."""
        return f"/static/{self.slug}.svg" if self.kind == "item" else None


@dataclass(frozen=True, slots=True)
class Price:
    """A price in Stripe."""

    product: str
    currency: str
    price_id: str
    unit_amount: int


PRODUCTS: Sequence[Product] = (
    Product(
        "tshirt",
        "T-shirt",
        "Heavy organic cotton with a small hook printed on the chest.",
        "item",
        {"usd": 2400, "eur": 2200, "jpy": 3600},
    ),
    Product(
        "mug",
        "Coffee mug",
        "Holds 330 ml. Dishwasher safe.",
        "item",
        {"usd": 1450, "eur": 1350, "jpy": 2100},
    ),
    Product(
        "poster",
        "Poster",
        "The life cycle of a payment, 50 × 70 cm.",
        "item",
        {"usd": 1800, "eur": 1700, "jpy": 2600},
    ),
    Product(
        "team",
        "Team plan",
        "Full access for everyone in the team.",
        "plan",
        {"usd": 2900, "eur": 2700, "jpy": 4300},
    ),
)


def product(slug: str) -> Product | None:
    """The product called `slug`, or None."""
    return next((each for each in PRODUCTS if each.slug == slug), None)


def lookup_key(slug: str, currency: str) -> str:
    """The lookup key of a price: Stripe chooses the ids of prices, we choose this."""
    return f"demo_{slug}_{currency}"


async def offer(dsn: str, prices: Sequence[Price]) -> None:
    """Store the Stripe prices that the shop uses."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.executemany(
            """
            INSERT INTO demo.prices (environment, product, currency, price_id, unit_amount)
            VALUES ($1, $2, $3, $4, $5)
            ON CONFLICT (environment, product, currency)
            DO UPDATE SET price_id = excluded.price_id, unit_amount = excluded.unit_amount
            """,
            [(ENVIRONMENT, p.product, p.currency, p.price_id, p.unit_amount) for p in prices],
        )
    finally:
        await connection.close()
