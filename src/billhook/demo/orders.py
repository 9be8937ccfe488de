"""The demo's tables: all statements of the shop's pages."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

from billhook.demo.catalog import ENVIRONMENT
from billhook.demo.people import PEOPLE, TEAM_ID, TEAM_NAME, Visitor

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

# An order is visible to the user who placed it; a guest's, to the browser that placed it.
_MINE = "(user_id = $2::uuid OR (user_id IS NULL AND $2::uuid IS NULL AND guest_id = $3::uuid))"

_ORDERS = f"""
    SELECT * FROM demo.orders WHERE environment = $1 AND {_MINE}
    ORDER BY created_at DESC LIMIT 50
"""  # noqa: S608

_ORDER = f"SELECT * FROM demo.orders WHERE environment = $1 AND {_MINE} AND id = $4"  # noqa: S608

# The shop's own price is used, never one from the browser.
_PLACE = """
    INSERT INTO demo.orders (environment, user_id, guest_id, product, price_id, quantity, amount,
        currency)
    SELECT p.environment, $2::uuid, $3::uuid, p.product, p.price_id, $6::integer,
        p.unit_amount * $6::integer, p.currency
    FROM demo.prices p
    WHERE p.environment = $1 AND p.product = $4 AND p.currency = $5
    RETURNING *
"""


async def install(dsn: str) -> None:
    """Create the demo's schema, policies and triggers, and its team; safe to repeat."""
    schema = resources.files("billhook.demo").joinpath("schema.sql").read_text(encoding="utf-8")
    connection = await asyncpg.connect(dsn)
    try:
        async with connection.transaction():
            await connection.execute(schema)
            await connection.execute(
                "INSERT INTO demo.teams (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                TEAM_ID,
                TEAM_NAME,
            )
            await connection.executemany(
                """
                INSERT INTO demo.team_members (team_id, user_id, role) VALUES ($1, $2, $3)
                ON CONFLICT DO NOTHING
                """,
                [(TEAM_ID, p.user_id, p.role) for p in PEOPLE if p.user_id and p.role],
            )
    finally:
        await connection.close()


async def prices(pool: Pool, currency: str) -> dict[str, asyncpg.Record]:
    """The prices in `currency`, by product."""
    rows = await pool.fetch(
        "SELECT * FROM demo.prices WHERE environment = $1 AND currency = $2", ENVIRONMENT, currency
    )
    return {row["product"]: row for row in rows}


async def place(
    pool: Pool, who: Visitor, product: str, currency: str, quantity: int
) -> asyncpg.Record | None:
    """Store a pending order; None if the product is not available."""
    guest_id = None if who.user_id else who.guest_id
    return await pool.fetchrow(
        _PLACE, ENVIRONMENT, who.user_id, guest_id, product, currency, quantity
    )


async def order(pool: Pool, who: Visitor, order_id: str) -> asyncpg.Record | None:
    """One of the visitor's orders, or None."""
    return await pool.fetchrow(_ORDER, ENVIRONMENT, who.user_id, who.guest_id, order_id)


async def orders(pool: Pool, who: Visitor) -> list[asyncpg.Record]:
    """The visitor's orders, newest first."""
    return await pool.fetch(_ORDERS, ENVIRONMENT, who.user_id, who.guest_id)


async def entitlement(pool: Pool) -> asyncpg.Record | None:
    """The demo team's entitlement; None before its first subscription."""
    return await pool.fetchrow(
        "SELECT * FROM demo.team_entitlements WHERE environment = $1 AND team_id = $2",
        ENVIRONMENT,
        TEAM_ID,
    )
