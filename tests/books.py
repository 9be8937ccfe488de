"""A ledger on a database, fed with hand-made events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import partial
from typing import Any, TypeVar

import asyncpg
import orjson

import aside
import stripe_events
from billhook import ledger
from billhook.db import Database

T = TypeVar("T")

WIPE = """
    TRUNCATE payments.stripe_products, payments.stripe_prices, payments.customers,
        payments.customer_mappings, payments.stripe_subscriptions,
        payments.stripe_subscription_items, payments.webhook_events, payments.transactions,
        billhook.tombstones, billhook.refreshes, billhook.ties, billhook.customer_claims,
        billhook.payment_refs, billhook.payment_sources, billhook.payment_refunds,
        billhook.fetched_payments;
    DELETE FROM billhook.syncs;
    UPDATE billhook.pulls SET since = '2020-01-01', cursor_at = '2020-01-01';
"""


class Books:
    """Applies events and reads tables; each call runs on a fresh event loop."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    def run(self, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        async def opened() -> T:
            database = Database(self.dsn, pool_size=8)
            await database.open()
            try:
                return await work(database)
            finally:
                await database.close()

        return aside.run(opened())

    def apply(self, *events: dict[str, Any]) -> list[Any]:
        """Apply events one after the other; a failed one gives its error in its place."""

        async def work(database: Database) -> list[Any]:
            return [await apply_one(database, each) for each in events]

        return self.run(work)

    def apply_at_once(self, lanes: Iterable[Iterable[dict[str, Any]]]) -> list[Any]:
        """Apply several sequences of events, side by side."""

        async def lane(database: Database, events: Iterable[dict[str, Any]]) -> list[Any]:
            return [await apply_one(database, each) for each in events]

        async def work(database: Database) -> list[Any]:
            answers = await asyncio.gather(*(lane(database, events) for events in lanes))
            return [answer for answers_of_lane in answers for answer in answers_of_lane]

        return self.run(work)

    def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        async def work(database: Database) -> list[dict[str, Any]]:
            async with database.connection() as connection:
                return [dict(row) for row in await connection.fetch(query, *args)]

        return self.run(work)

    def row(self, query: str, *args: Any) -> dict[str, Any]:
        (only,) = self.rows(query, *args)
        return only

    def execute(self, script: str) -> None:
        async def work() -> None:
            connection = await asyncpg.connect(self.dsn, statement_cache_size=0)
            try:
                await connection.execute(script)
            finally:
                await connection.close()

        aside.run(work())


async def apply_one(database: Database, event: dict[str, Any]) -> Any:
    environment = "live" if event["livemode"] else "test"
    try:
        return await ledger.apply(
            database, environment, ledger.decode(stripe_events.payload(event))
        )
    except (ledger.EventNotApplied, ledger.EventNotRecorded) as error:
        return error


# What may differ between two orders of arrival: surrogate keys and our own clock.
_INCIDENTAL = ("id", "created_at", "updated_at", "synced_at", "payment_id", "received_at")

_PROJECTIONS = (
    "stripe_products",
    "stripe_prices",
    "customers",
    "customer_mappings",
    "stripe_checkout_sessions",
    "stripe_subscriptions",
    "stripe_subscription_items",
    "transactions",
)


def final_state(books: Books, but: Collection[str] = ()) -> dict[str, list[str]]:
    """Every projected row, without what is incidental, in a fixed order."""
    return books.run(partial(state_of, but=but))


async def state_of(database: Database, but: Collection[str] = ()) -> dict[str, list[str]]:
    """`final_state`, of a database that is open."""
    state = {}
    async with database.connection() as connection:
        for table in _PROJECTIONS:
            rows = await connection.fetch(
                f"SELECT pg_catalog.to_jsonb(t) AS row FROM payments.{table} t"
            )
            kept = [
                {
                    key: value
                    for key, value in row["row"].items()
                    if key not in _INCIDENTAL and key not in but
                }
                for row in rows
            ]
            state[table] = sorted(
                orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode() for row in kept
            )
    return state
