"""How far the app has come: has it anything to sell, and has it sold anything?"""

from __future__ import annotations

from dataclasses import dataclass

from billhook.postgres import Database
from billhook.reports.counted import FIGURES
from billhook.settings import Environment

_FOUND = f"""
SELECT EXISTS (SELECT FROM payments.stripe_prices
               WHERE environment = $1 AND active) AS has_price,
       EXISTS (SELECT FROM payments.transactions
               WHERE environment = $1 AND {FIGURES["payments"].where}) AS has_payment
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Progress:
    """`has_price`: an active one. `has_payment`: one that succeeded."""

    has_price: bool
    has_payment: bool


async def progress(database: Database, environment: Environment) -> Progress:
    """Read from the mirror."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_FOUND, environment)
    assert row is not None
    return Progress(**row)
