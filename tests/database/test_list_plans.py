"""No page reads more than a few rows beyond its own, whatever is asked for and wherever it begins:
PostgreSQL's plans, made without knowing the parameters, as it makes them after a few calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson
import pytest

from billhook.models import (
    LISTS,
    CustomersQuery,
    EventsQuery,
    ListQuery,
    MirroredRow,
    ProductsQuery,
    SubscriptionsQuery,
    TransactionsQuery,
)
from billhook.postgres import Database
from billhook.reports import lists
from billhook.reports.paging import Page
from billhook.settings import Environment

ROWS = 20_000
LIMIT = 20
MOST = 250
"""Rows that a page of twenty may touch: some for each of several types and statuses."""

_FILL = f"""
    INSERT INTO payments.customers (
        provider, environment, provider_customer_id, email, name, provider_created_at)
    SELECT 'stripe', 'test', 'cus_' || n, 'user' || n || '@b.test',
        chr(97 + n % 4) || md5(n::text),
        now() - n * '1 s'::interval
    FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.transactions (
        provider, environment, type, status, provider_customer_id, subject_type, subject_id,
        provider_object_type, provider_object_id, related_object_ids, payment_id, amount, currency,
        provider_created_at)
    SELECT 'stripe', 'test',
        (ARRAY['one_time_payment', 'subscription_invoice', 'refund'])[1 + n % 3],
        CASE WHEN n % 5000 = 0 THEN 'pending' ELSE 'succeeded' END, 'cus_' || n, 'team', 't' || n,
        CASE WHEN n % 3 = 2 THEN 'refund' ELSE 'payment_intent' END, 'pi_' || n,
        jsonb_build_object('payment_intent', 'pi_' || n, 'subscription', 'sub_' || n), n, n % 10,
        'eur', now() - n * '1 s'::interval
    FROM generate_series(1, {ROWS}) n;
    INSERT INTO billhook.payment_refs
    SELECT 'test', 'payment_intent', 'pi_' || n, n FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.stripe_subscriptions (
        environment, subscription_id, customer_id, subject_type, subject_id, status,
        current_period_end, updated_at)
    SELECT 'test', 'sub_' || n, 'cus_' || n, 'team', 't' || n,
        CASE WHEN n % 5000 = 0 THEN 'past_due' ELSE 'active' END, now() + n * '1 s'::interval,
        now() - n * '1 s'::interval
    FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.stripe_subscription_items (
        environment, subscription_item_id, subscription_id)
    SELECT 'test', 'si_' || n, 'sub_' || n FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.stripe_invoices (
        environment, invoice_id, customer_id, subscription_id, subject_type, subject_id, status,
        provider_created_at)
    SELECT 'test', 'in_' || n, 'cus_' || n % 5000, 'sub_' || n, 'team', 't' || n % 5000,
        CASE WHEN n % 5000 = 0 THEN 'open' ELSE 'paid' END, now() - n * '1 s'::interval
    FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.webhook_events (
        provider, environment, event_type, livemode, object_type, object_id, processing_status,
        payload, received_at, provider_event_id)
    SELECT 'stripe', 'test', 'thing' || n % 5 || '.created', false, 'thing' || n % 5, 'x_' || n,
        CASE WHEN n % 5000 = 0 THEN 'failed' ELSE 'processed' END, '{{}}',
        now() - n * '1 s'::interval, 'evt_' || n
    FROM generate_series(1, 5 * {ROWS}) n;
    INSERT INTO payments.stripe_products (environment, product_id, name, active)
    SELECT 'test', 'prod_' || n, 'Tea ' || n, n % 2 = 0 FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.stripe_prices (
        environment, price_id, product_id, active, currency, type, lookup_key)
    SELECT 'test', 'price_' || n, 'prod_' || n, true, 'eur', 'one_time', 'key_' || n
    FROM generate_series(1, {ROWS}) n;
"""

Ask = Callable[..., Awaitable[Page[Any]]]
INVOICES = LISTS["invoices"]


async def invoices(database: Database, environment: Environment, query: Any) -> Page[MirroredRow]:
    return await lists.mirrored(database, environment, INVOICES, query)


SINCE = {"since": "2020-01-01T00:00:00Z"}
UNTIL = {"until": "2090-01-01T00:00:00Z"}
CASES: list[tuple[Ask, type[ListQuery], tuple[str, ...], tuple[dict[str, Any], ...]]] = [
    (
        lists.payments,
        TransactionsQuery,
        ("newest", "oldest", "largest"),
        (
            {},
            SINCE,
            UNTIL,
            {"type": "refund"},
            {"status": "pending"},
            {"type": "failed_payment", "status": "refunded"},
            {"customer": "cus_9"},
            {"subjectType": "team", "subjectId": "t9"},
            *(
                {"search": text}
                for text in ("pi_9", "sub_9", "cus_9", "team:t9", "user9@b.test", "re_0", "nix")
            ),
        ),
    ),
    (
        lists.customers,
        CustomersQuery,
        ("name", "newest", "oldest"),
        ({}, *({"search": text} for text in ("u", "A", "A00", "user19999", "cus_9", "nix"))),
    ),
    (
        lists.subscriptions,
        SubscriptionsQuery,
        ("changed", "renewal"),
        (
            {},
            {"status": "past_due"},
            {"status": "unpaid"},
            {"customer": "cus_9"},
            *({"search": text} for text in ("sub_9", "cus_9", "team:t9", "user9@b.test", "nix")),
        ),
    ),
    (
        lists.events,
        EventsQuery,
        ("newest", "oldest"),
        (
            {},
            SINCE,
            UNTIL,
            {"status": "failed"},
            {"type": "thing1.created"},
            {"type": "thing1.created", "status": "failed"},
            {"type": "thing1.created", "status": "ignored"} | SINCE,
            {"objectId": "x_9"},
            {"deadLetter": True},
            *({"search": text} for text in ("evt_9", "x_9", "thing1.*", "thing1.created", "nix")),
        ),
    ),
    (
        lists.products,
        ProductsQuery,
        ("",),
        ({}, {"active": True}, *({"search": text} for text in ("tea", "prod_9", "key_9", "nix"))),
    ),
    (
        invoices,
        INVOICES.query,
        ("",),
        (
            {},
            SINCE,
            UNTIL,
            {"status": "open"},
            {"status": "void"},
            {"customer": "cus_9"},
            {"customer": "cus_9", "status": "paid"},
            {"subscription": "sub_9"},
            {"subjectType": "team", "subjectId": "t9"} | SINCE,
        ),
    ),
]


class Recording(Database):
    """Remembers what it was asked."""

    def __init__(self, dsn: str) -> None:
        super().__init__(dsn)
        self.asked: list[tuple[str, tuple[Any, ...]]] = []

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        yield self

    async def fetch(self, statement: str, *args: Any) -> list[asyncpg.Record]:
        self.asked.append((statement, args))
        async with super().connection() as connection:
            return list(await connection.fetch(statement, *args))

    async def fetchval(self, statement: str, *args: Any) -> Any:
        return (await self.fetch(statement, *args))[0][0]


def literal(value: object) -> str:
    if isinstance(value, list):
        value = "{" + ",".join(map(str, value)) + "}"
    elif isinstance(value, dict):
        value = orjson.dumps(value).decode()
    return "'" + str(value).replace("'", "''") + "'"


def touched(plan: dict[str, Any]) -> int:
    """Rows of tables that a plan looked at, whether it used them or not; and pages of indexes that
    it went through without finding any (a look-up reads five at most, to find one row)."""
    own = 0
    if "Relation Name" in plan:
        loops = plan["Actual Loops"]
        names = ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
        rows = sum(plan.get(name, 0) for name in names) * loops
        pages = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
        own = round(rows + max(0, pages - 5 * (rows + loops)))
    return own + sum(touched(part) for part in plan.get("Plans", []))


async def rows_touched(
    judge: asyncpg.Connection[asyncpg.Record], asked: list[tuple[str, tuple[Any, ...]]]
) -> int:
    total = 0
    for statement, args in asked:
        await judge.execute(f"DEALLOCATE ALL; PREPARE asked AS {statement}")
        values = f"({', '.join(map(literal, args))})" if args else ""
        plan = await judge.fetchval(
            f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE asked{values}"
        )
        total += touched(orjson.loads(plan)[0]["Plan"])
    return total


def test_no_page_reads_more_than_a_few_rows_beyond_its_own(
    direct_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So many rows are few, where an order has no index for a filter.
    for ask in (lists.payments, lists.customers):
        monkeypatch.setitem(ask.__globals__, "_FEW", 100)

    async def work() -> list[str]:
        judge = await asyncpg.connect(
            direct_database_url,
            statement_cache_size=0,
            server_settings={"plan_cache_mode": "force_generic_plan"},
        )
        await judge.execute(_FILL, timeout=120)
        await judge.execute("VACUUM ANALYZE", timeout=120)
        database = Recording(direct_database_url)
        await database.open()
        wrong = []
        for ask, model, orders, queries in CASES:
            for order in orders:
                for query in queries:
                    given = query | ({"order": order} if order else {})
                    # The first page, one that lies deep, and the one before that.
                    page = await ask(database, "test", model(limit=LIMIT, **given))
                    places: list[dict[str, str]] = [{}]
                    if page.next_cursor:
                        for _ in range(12):
                            after = page.next_cursor
                            if after is None:
                                break
                            page = await ask(
                                database, "test", model(limit=100, startingAfter=after, **given)
                            )
                            places[1:] = [{"startingAfter": after}, {"endingBefore": after}]
                    for place in places:
                        database.asked.clear()
                        await ask(database, "test", model(limit=LIMIT, **given, **place))
                        rows = await rows_touched(judge, database.asked)
                        if rows > MOST:
                            wrong.append(f"{model.__name__} {given} {list(place)}: {rows}")
        await database.close()
        await judge.close()
        return wrong

    wrong = asyncio.run(work())
    assert not wrong, "\n".join(wrong)


def test_a_list_of_subscriptions_reads_the_objects_only_of_those_that_ended(
    database_url: str,
) -> None:
    async def blocks(database: Database, status: str) -> int:
        """How many blocks of large values one page reads."""
        before = await toasted(database)
        page = await lists.subscriptions(database, "test", SubscriptionsQuery(status=status))
        assert len(page.rows) == 1
        return await toasted(database) - before

    async def toasted(database: Database) -> int:
        async with database.connection() as connection:
            await connection.execute("SELECT pg_stat_force_next_flush()")
            found: int = await connection.fetchval(
                "SELECT toast_blks_hit + toast_blks_read FROM pg_statio_user_tables "
                "WHERE relid = 'payments.stripe_subscriptions'::regclass"
            )
            return found

    async def work() -> None:
        database = Database(database_url, pool_size=1)  # whose own statistics are read
        await database.open()
        try:
            async with database.connection() as connection:
                await connection.execute(
                    """
                    INSERT INTO payments.stripe_subscriptions (
                        environment, subscription_id, customer_id, status, raw)
                    SELECT 'test', 'sub_' || status, 'cus_1', status, jsonb_build_object(
                        'ended_at', 1780000000,
                        'items',
                        (SELECT string_agg(md5(n::text), '') FROM generate_series(1, 500) n))
                    FROM unnest(ARRAY['active', 'canceled']) AS status
                    """
                )
            assert await blocks(database, "active") == 0
            assert await blocks(database, "canceled") > 0
        finally:
            await database.close()

    asyncio.run(work())
