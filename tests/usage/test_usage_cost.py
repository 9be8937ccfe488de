"""What is asked of usage reads a few entries of an index, however much was recorded, and whatever
PostgreSQL believes about the table."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from billhook.models import UsageQuery, UsageTotalsQuery
from billhook.postgres import Database
from billhook.reports import lists
from billhook.usage import batches, retention, state
from books import Books

ROWS = 60_000
MOST = 600
"""Buffers; the table has several thousand."""
FILL = """
INSERT INTO payments.usage (environment, meter, subject_type, subject_id, customer_id, status,
    occurred_at, created_at)
SELECT CASE WHEN n % 9000 = 0 THEN 'live' ELSE 'test' END,
    CASE WHEN n % 30000 = 1 THEN 'rare' ELSE 'calls' || n % 3 END,
    CASE WHEN n % 10 > 0 THEN 'team' END,
    CASE WHEN n % 10 > 0 THEN CASE WHEN n % 3 = 0 THEN 'busy' ELSE 't' || n % 500 END END,
    CASE WHEN n % 10 = 0 THEN 'cus_' || n % 50 END,
    CASE WHEN n % 20000 = 7 THEN 'failed' WHEN n % 5 = 2 THEN 'waiting' ELSE 'sent' END,
    date_trunc('month', now()) - n * interval '1 minute',
    date_trunc('month', now()) - n * interval '1 minute'
FROM generate_series(1, {rows}) AS n;
"""
QUERIES: list[dict[str, Any]] = [
    {},
    {"status": "failed"},
    {"status": "uncertain"},
    {"meter": "rare"},
    {"meter": "none"},
    {"meter": "rare", "status": "sent"},
    {"subjectType": "team", "subjectId": "busy"},
    {"subjectType": "team", "subjectId": "busy", "meter": "calls0"},
    {"subjectType": "team", "subjectId": "nobody"},
    {"customer": "cus_10"},
]


@pytest.fixture(params=["never analysed", "analysed when all was pending"])
def much(books: Books, request: pytest.FixtureRequest) -> Books:
    books.execute("ALTER TABLE payments.usage SET (autovacuum_enabled = off)")
    books.execute(FILL.format(rows=ROWS))
    if request.param == "analysed when all was pending":
        books.execute("UPDATE payments.usage SET status = 'pending'; ANALYZE payments.usage")
        books.execute(f"TRUNCATE payments.usage; {FILL.format(rows=ROWS)}")
    return books


class Counting:
    """A connection, or a database, that counts what its statements about usage read."""

    def __init__(self, behind: Any, found: list[int]) -> None:
        self._behind = behind
        self._found = found

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        async with self._behind.connection() as connection:
            yield Counting(connection, self._found)

    @asynccontextmanager
    async def as_service(self) -> AsyncIterator[Any]:
        async with self._behind.as_service() as connection:
            yield Counting(connection, self._found)

    async def execute(self, query: str) -> None:
        await self._behind.execute(query)

    async def fetch(self, query: str, *args: Any) -> Any:
        return await self._counted("fetch", query, args)

    async def fetchrow(self, query: str, *args: Any) -> Any:
        return await self._counted("fetchrow", query, args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._counted("fetchval", query, args)

    async def _counted(self, how: str, query: str, args: Any) -> Any:
        if "payments.usage" in query:
            explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"
            for _ in range(2):  # the first time, a session reads the catalog
                plan = await self._behind.fetchval(explain, *args)
            top = (orjson.loads(plan) if isinstance(plan, str) else plan)[0]["Plan"]
            self._found.append(top["Shared Hit Blocks"] + top["Shared Read Blocks"])
        return await getattr(self._behind, how)(query, *args)


Ask = Callable[[Any], Awaitable[object]]


def buffers(books: Books, ask: Ask) -> int:
    """How many buffers the largest statement of a call reads."""
    found: list[int] = []

    async def work(database: Database) -> None:
        await ask(Counting(database, found))

    books.run(work)
    return max(found)


def test_lists_totals_and_checks_read_little(much: Books, monkeypatch: pytest.MonkeyPatch) -> None:
    async def last_page(database: Database, query: dict[str, Any]) -> None:
        page = await lists.usage(database, "test", UsageQuery(limit=20, **query))
        if page.next_cursor is not None:
            again = UsageQuery(limit=20, startingAfter=page.next_cursor, **query)
            await lists.usage(database, "test", again)

    asked: dict[str, Ask] = {
        f"list {query}": lambda database, query=query: last_page(database, query)  # type: ignore[misc]
        for query in QUERIES
    }
    for meter in (None, "calls0"):
        of = UsageTotalsQuery(subjectType="team", subjectId="busy", meter=meter)
        asked[f"totals {meter}"] = lambda database, of=of: state.totals(database, "test", of)  # type: ignore[misc]
    for environment in ("test", "live"):
        asked[f"due {environment}"] = lambda database, e=environment: batches.any_due(database, e)  # type: ignore[misc]
    read = {name: buffers(much, ask) for name, ask in asked.items()}
    assert {name: each for name, each in read.items() if each > MOST} == {}


def test_compacting_looks_at_what_was_sent_and_is_old_only(much: Books) -> None:
    async def compact(database: Database) -> None:
        while await retention.compact(database, "test", 0):
            pass

    much.run(compact)
    left = much.rows("SELECT DISTINCT environment, status FROM payments.usage ORDER BY 1, 2")
    assert [tuple(row.values()) for row in left if row["environment"] == "test"] == [
        ("test", "failed"),
        ("test", "waiting"),
    ]
    much.execute("VACUUM payments.usage")
    assert buffers(much, compact) < MOST


def test_lists_show_the_last_used_first_page_by_page(books: Books) -> None:
    books.execute(FILL.format(rows=300))
    chance = random.Random(7)
    for number in chance.sample(range(1, 300), 40):
        at = datetime.now(UTC) - timedelta(seconds=chance.randrange(30))
        books.execute(f"UPDATE payments.usage SET occurred_at = '{at}' WHERE id = {number}")

    async def all_pages(database: Database, query: dict[str, Any]) -> list[int]:
        found: list[int] = []
        cursor = None
        while True:
            page = await lists.usage(
                database, "test", UsageQuery(limit=7, startingAfter=cursor, **query)
            )
            found += [row.id for row in page.rows]
            if (cursor := page.next_cursor) is None:
                return found

    columns = {
        "subjectType": "subject_type",
        "subjectId": "subject_id",
        "meter": "meter",
        "status": "status",
        "customer": "customer_id",
    }
    for query in QUERIES:
        where = " AND ".join(
            ["environment = 'test'", *(f"{columns[k]} = '{v}'" for k, v in query.items())]
        )
        expected = books.rows(
            f"SELECT id FROM payments.usage WHERE {where} ORDER BY occurred_at DESC, id DESC"
        )
        found = books.run(lambda database, query=query: all_pages(database, query))  # type: ignore[misc]
        assert found == [row["id"] for row in expected], query
