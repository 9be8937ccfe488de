"""Whatever happens to payments and subscriptions, in whatever transactions of PostgreSQL: the
totals are what counting every row anew gives, at each step and for every reader."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from itertools import count
from typing import Any

import asyncpg
from hypothesis import given, settings
from hypothesis import strategies as st

from books import Books
from depth import by_depth
from totals import DIFFERENCES, FOLD, SUBSCRIPTION_DIFFERENCES

WRITERS = 2
FOLDER = 2
NUMBERS = count()
# Two days apart, an hour apart across midnight in UTC, and midnight itself.
MOMENTS = [
    datetime(2026, 5, 29, 0, 0, tzinfo=UTC),
    datetime(2026, 5, 29, 23, 30, tzinfo=UTC),
    datetime(2026, 5, 30, 0, 30, tzinfo=UTC),
]
times = st.sampled_from([*MOMENTS, *MOMENTS, None])
# Mostly of one kind, so that a story has much to do with it; and a bit of everything else.
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "provider": st.sampled_from(["stripe"] * 9 + ["paddle"]),
    "environment": st.sampled_from(["test"] * 9 + ["live"]),
    "type": st.sampled_from(
        ["one_time_payment", "subscription_invoice", "failed_payment", "refund", "refund"]
    ),
    "status": st.sampled_from(
        ["succeeded", "failed", "failed", "pending", "refunded", "refunded", "partially_refunded"]
    ),
    "amount": st.sampled_from([1, 20, 300, None]),
    "amount_refunded": st.sampled_from([0, 1]),
    "currency": st.sampled_from(["eur"] * 7 + ["jpy", "", None]),
    "description": st.sampled_from([None, "late"]),
    "paid_at": times,
    "failed_at": times,
    "refunded_at": times,
    "provider_created_at": times,
    "created_at": st.sampled_from(MOMENTS),
}
SUBSCRIPTION: dict[str, st.SearchStrategy[Any]] = {
    "environment": COLUMNS["environment"],
    "status": st.sampled_from(["active", "past_due", "canceled"]),
    "metadata": st.just("{}"),
}
writers = st.integers(0, WRITERS - 1)


def inserts(table: str, columns: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    return st.tuples(st.just("insert"), writers, st.just(table), st.fixed_dictionaries(columns))


def changes(table: str, columns: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    some = st.sets(st.sampled_from(sorted(columns)), min_size=1, max_size=3).flatmap(
        lambda names: st.fixed_dictionaries({name: columns[name] for name in sorted(names)})
    )
    nth = st.integers(0, 9)
    update = st.tuples(st.just("update"), writers, st.just(table), some, nth)
    delete = st.tuples(st.just("delete"), writers, st.just(table), st.none(), nth)
    return st.one_of(update, update, delete)


beginnings = st.lists(inserts("transactions", COLUMNS), min_size=4, max_size=8)
steps = st.one_of(
    inserts("transactions", COLUMNS),
    changes("transactions", COLUMNS),
    changes("transactions", COLUMNS),
    inserts("stripe_subscriptions", SUBSCRIPTION),
    changes("stripe_subscriptions", SUBSCRIPTION),
    st.tuples(st.just("fold"), st.just(FOLDER), st.integers(1, 4)),
    st.tuples(st.just("end"), st.integers(0, FOLDER), st.sampled_from([True, True, False])),
)


def test_totals_are_exact_whatever_happens_in_whatever_transactions(books: Books) -> None:
    @settings(max_examples=by_depth(8, 25, 2000))
    @given(beginnings, st.lists(steps, min_size=10, max_size=30))
    def holds(beginning: list[tuple[Any, ...]], story: list[tuple[Any, ...]]) -> None:
        committed = [("end", lane, True) for lane in range(WRITERS)]
        asyncio.run(told(books.dsn, [*beginning, *committed, *story]))

    holds()


async def told(dsn: str, story: list[tuple[Any, ...]]) -> None:
    """Two writers and a folder, each in a transaction of its own, and a reader beside them.

    A writer changes its own rows only; what it writes waits for nobody else's transaction.
    """
    async with AsyncExitStack() as stack:
        lanes = [Lane(await opened(stack, dsn), str(number)) for number in range(WRITERS + 1)]
        reader = await opened(stack, dsn)
        await reader.execute("TRUNCATE payments.transactions, payments.stripe_subscriptions")
        for name, number, *what in story:
            lane = lanes[number]
            match name:
                case "fold":
                    await lane.run(FOLD, *what)
                case "end":
                    await lane.end(commit=what[0])
                case _:
                    await lane.write(name, *what)
            await assert_exact_for(reader, lane.connection)
        for lane in lanes:
            await lane.end(commit=True)
        await assert_exact_for(reader)
        while await reader.fetchval(FOLD, 3):
            await assert_exact_for(reader)
        assert await reader.fetchval("SELECT count(*) FROM billhook.daily_changes") == 0


async def assert_exact_for(*readers: asyncpg.Connection[asyncpg.Record]) -> None:
    for each in readers:
        assert await each.fetch(DIFFERENCES) == []
        assert await each.fetch(SUBSCRIPTION_DIFFERENCES) == []


async def opened(stack: AsyncExitStack, dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    stack.push_async_callback(connection.close)
    return connection


class Lane:
    """A connection and the transaction that it is in."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record], name: str) -> None:
        self.connection = connection
        self._name = name
        self._transaction: Any = None

    async def run(self, statement: str, *args: Any) -> None:
        if self._transaction is None:
            self._transaction = self.connection.transaction()
            await self._transaction.start()
            # Who waits fails; and a day is a UTC day wherever the writer is.
            await self.connection.execute(
                "SET LOCAL lock_timeout = '5s'; SET LOCAL timezone = 'Pacific/Auckland'"
            )
        await self.connection.execute(statement, *args)

    async def end(self, *, commit: bool) -> None:
        if self._transaction is not None:
            await (self._transaction.commit() if commit else self._transaction.rollback())
            self._transaction = None

    async def write(
        self, name: str, table: str, columns: dict[str, Any] | None, nth: int = 0
    ) -> None:
        """Insert a row, or change or delete this lane's nth."""
        values = (columns or {}) | {"subject_id": self._name}
        if name == "insert" and table == "stripe_subscriptions":
            values |= {"subscription_id": str(next(NUMBERS)), "customer_id": "cus_1"}
        places = ", ".join(f"${n}" for n in range(1, len(values) + 1))
        row = f"({', '.join(values)}) = ROW({places})"
        mine = f"""WHERE id = (
            SELECT (array_agg(id ORDER BY id))[1 + {nth} % count(*)] FROM payments.{table}
            WHERE subject_id = '{self._name}' HAVING count(*) > 0)"""
        match name:
            case "insert":
                into = f"INSERT INTO payments.{table} ({', '.join(values)}) VALUES ({places})"
                await self.run(into, *values.values())
            case "update":
                await self.run(f"UPDATE payments.{table} SET {row} {mine}", *values.values())
            case "delete":
                await self.run(f"DELETE FROM payments.{table} {mine}")
