"""Whether the app has something to sell, and has sold something."""

from __future__ import annotations

from dataclasses import dataclass

from billhook.postgres import Database
from billhook.settings import Environment

# Each combination is one look into the index transactions_by_time.
_FOUND = """
SELECT EXISTS (SELECT FROM payments.stripe_prices
               WHERE environment = $1 AND active) AS has_price,
       EXISTS (SELECT FROM pg_catalog.unnest($2::text[]) AS of_type,
                           pg_catalog.unnest($3::text[]) AS of_status,
                   LATERAL (SELECT FROM payments.transactions AS t
                            WHERE t.environment = $1 AND t.type = of_type AND t.status = of_status
                            LIMIT 1) AS found) AS has_payment
"""
_PAYMENTS = ("one_time_payment", "subscription_invoice")
_PAID = ("succeeded", "partially_refunded", "refunded")


@dataclass(frozen=True, slots=True)
class Progress:
    """`has_price`: an active one. `has_payment`: one that succeeded."""

    has_price: bool
    has_payment: bool


async def progress(database: Database, environment: Environment) -> Progress:
    """Read from the mirror."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_FOUND, environment, _PAYMENTS, _PAID)
    assert row is not None
    return Progress(**row)
