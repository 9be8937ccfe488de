"""A ledger on a database, fed with hand-made events."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Collection, Coroutine, Iterable
from dataclasses import asdict
from functools import partial
from typing import Any, TypeVar

import orjson

import aside
import stripe_events
from billhook.kinds import KINDS, TABLES
from billhook.ledger import EventNotApplied, EventNotRecorded, Ledger, decode
from billhook.ledger.transaction import Work, apply_batch
from billhook.mirror.fetching import facts_of
from billhook.postgres import Connection, Database
from billhook.projections import Changes, Event, project
from billhook.recovery import housekeeping
from billhook.rows import Fact, apply_facts
from billhook.settings import Environment

T = TypeVar("T")

WIPE = f"""
    TRUNCATE {", ".join(f"payments.{table}" for table in TABLES)},
        payments.customer_mappings, payments.webhook_events, payments.transactions,
        payments.mrr_movements, billhook.subscription_states, billhook.discounts,
        billhook.tombstones, billhook.refreshes, billhook.ties, billhook.customer_claims,
        billhook.payment_refs, billhook.payment_sources, billhook.payment_refunds,
        billhook.fetched_payments;
    DELETE FROM billhook.syncs;
    UPDATE billhook.pulls SET since = '2020-01-01', cursor_at = '2020-01-01';
"""


class Books:
    """Applies events and reads tables. The calls of a test share a pool, which is closed before
    their database is dropped (`close_all`)."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._database: Database | None = None

    def run(self, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        return aside.run(self._run(work))

    async def _run(self, work: Callable[[Database], Coroutine[Any, Any, T]]) -> T:
        if self._database is None:
            database = Database(self.dsn, pool_size=8)
            await database.open()
            self._database = database
            _open.append(self)
        return await work(self._database)

    def close(self) -> None:
        if self._database is not None:
            aside.run(self._database.close())
            self._database = None

    def apply(self, *events: dict[str, Any]) -> list[Any]:
        """Apply events one after the other; a failed one gives its error in its place."""

        async def work(database: Database) -> list[Any]:
            ledger = Ledger(database)
            return [await apply_one(ledger, each) for each in events]

        return self.run(work)

    def apply_at_once(self, lanes: Iterable[Iterable[dict[str, Any]]]) -> list[Any]:
        """Apply several sequences of events, side by side."""

        async def lane(ledger: Ledger, events: Iterable[dict[str, Any]]) -> list[Any]:
            return [await apply_one(ledger, each) for each in events]

        async def work(database: Database) -> list[Any]:
            ledger = Ledger(database)
            answers = await asyncio.gather(*(lane(ledger, events) for events in lanes))
            return [answer for answers_of_lane in answers for answer in answers_of_lane]

        return self.run(work)

    def apply_in_batches(self, events: Iterable[dict[str, Any]], sizes: Iterable[int]) -> None:
        """Apply events in transactions of these many, again and again."""
        deliveries = [decode(stripe_events.payload(each)) for each in events]
        works = [Work(each, project(each.event)) for each in deliveries]

        async def work(database: Database) -> None:
            begin = 0
            for size in itertools.cycle(sizes):
                if begin >= len(works):
                    return
                async with database.as_service() as connection:
                    await apply_batch(connection, "test", works[begin : begin + size])
                begin += size

        self.run(work)

    def fetch(self, kind: str, stripe_object: dict[str, Any], at: int) -> None:
        """Show an object as Stripe answered it at a time."""

        async def work(database: Database) -> None:
            async with database.as_service() as connection:
                facts = facts_of(KINDS[kind], [stripe_object], at)
                await apply_facts(connection, "test", facts, outside_ledger=True)

        self.run(work)

    def delete(self, kind: str, object_id: str, at: int) -> None:
        """Remove an object as Stripe answered, at a time, that it is gone."""

        async def work(database: Database) -> None:
            async with database.as_service() as connection:
                gone = Fact(
                    Event("", kind, at, {"id": object_id}), Changes(deleted=(kind, object_id))
                )
                await apply_facts(connection, "test", [gone], outside_ledger=True)

        self.run(work)

    def archive_events(self, most: int) -> None:
        """Archive the oldest of the finished events, as a retention does."""
        self.run(lambda database: housekeeping.archive(database, "test", days=-1, most=most))

    def rows(self, query: str, *args: Any) -> list[dict[str, Any]]:
        async def work(connection: Connection) -> list[dict[str, Any]]:
            return [dict(row) for row in await connection.fetch(query, *args)]

        return self._connected(work)

    def row(self, query: str, *args: Any) -> dict[str, Any]:
        (only,) = self.rows(query, *args)
        return only

    def execute(self, script: str) -> None:
        async def work(connection: Connection) -> None:
            await connection.execute(script)

        self._connected(work)

    def _connected(self, work: Callable[[Connection], Coroutine[Any, Any, T]]) -> T:
        async def connected(database: Database) -> T:
            async with database.connection() as connection:
                return await work(connection)

        return self.run(connected)


_open: list[Books] = []


def close_all() -> None:
    """Close the pools that a test has opened."""
    while _open:
        _open.pop().close()


async def apply_one(over: Database | Ledger, event: dict[str, Any]) -> Any:
    ledger = over if isinstance(over, Ledger) else Ledger(over)
    environment: Environment = "live" if event["livemode"] else "test"
    try:
        return asdict(await ledger.record(environment, decode(stripe_events.payload(event))))
    except (EventNotApplied, EventNotRecorded) as error:
        return error


# What may differ between two orders of arrival: surrogate keys and our own clock.
_INCIDENTAL = ("id", "created_at", "updated_at", "synced_at", "payment_id", "received_at")

_PROJECTIONS = (
    *(*TABLES, "customer_mappings", "stripe_checkout_sessions", "transactions", "mrr_movements"),
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
