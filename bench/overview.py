"""The overview with 1,000,000 transactions in its 30 days and 1,000,000 subscriptions:
milliseconds, and how fast what changed is added to the totals.

A look at the tables themselves, without totals, is timed beside it.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from bench.database import migrated
from bench.lists import milliseconds
from billhook.db import Database
from billhook.models import OverviewResponse
from billhook.overview import overview
from billhook.recovery import housekeeping

TRANSACTIONS = 1_000_000
SUBSCRIPTIONS = 1_000_000
DAYS = 30
MINUTE = 60_000
"""Changes of a busy minute: a thousand events a second."""

_FILL = f"""
    INSERT INTO payments.transactions (
        provider, environment, type, status, provider_object_type, provider_object_id, amount,
        currency, paid_at, failed_at, refunded_at, provider_created_at)
    SELECT 'stripe', 'test',
        CASE WHEN n % 20 = 0 THEN 'refund' ELSE 'one_time_payment' END,
        CASE WHEN n % 20 = 0 THEN 'refunded' WHEN n % 9 = 0 THEN 'failed' ELSE 'succeeded' END,
        'payment_intent', $1 || n, 100 + n % 900, (ARRAY['eur', 'usd', 'jpy'])[1 + n % 3],
        at, at, at, at
    FROM (SELECT n, now() - n * interval '{DAYS} days' / {TRANSACTIONS} AS at
          FROM generate_series(1, $2::int) n) AS each
"""
_SUBSCRIBE = f"""
    INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id, status)
    SELECT 'test', 'sub_' || n, 'cus_' || n,
        (ARRAY['active', 'trialing', 'past_due', 'canceled'])[1 + n % 4]
    FROM generate_series(1, {SUBSCRIPTIONS}) n
"""
_ANEW = """
    SELECT currency, (coalesce(paid_at, provider_created_at, created_at) AT TIME ZONE 'UTC')::date,
        sum(amount), count(*)
    FROM payments.transactions
    WHERE provider = 'stripe' AND environment = 'test'
      AND coalesce(provider_created_at, created_at) >= now() - interval '30 days'
    GROUP BY 1, 2
"""
_COUNTED = """
    SELECT status, count(*) FROM payments.stripe_subscriptions
    WHERE environment = 'test' GROUP BY status
"""


async def measure(dsn: str) -> None:
    """Fill the tables, fold, and time what an operator waits for."""
    database = Database(dsn)
    await database.open()
    today = datetime.now(UTC).date()

    async def execute(statement: str, *args: object) -> float:
        began = time.perf_counter()
        async with database.connection() as connection:
            await connection.execute(statement, *args, timeout=900)
        return time.perf_counter() - began

    async def ask() -> object:
        return await overview(database, "test", DAYS, today)

    async def timed(name: str) -> None:
        print(f"  overview, {name}: {await milliseconds(ask):.1f} ms", flush=True)

    async def fold(name: str) -> None:
        async with database.connection() as connection:
            changes = await connection.fetchval("""
                SELECT (SELECT count(*) FROM billhook.daily_changes)
                    + (SELECT count(*) FROM billhook.subscription_changes)
            """)
        began = time.perf_counter()
        while await housekeeping.fold(database):
            pass
        took = time.perf_counter() - began
        print(f"  folding {changes:,} changes, {name}: {took:.2f} s, {changes / took:,.0f}/s")

    await timed("nothing there")
    await execute(_FILL, "pi_", TRANSACTIONS)
    await execute(_SUBSCRIBE)
    for table in ("transactions", "stripe_subscriptions"):
        await execute(f"VACUUM ANALYZE payments.{table}")
    await execute("CHECKPOINT")
    print(f"  transactions themselves: {await anew(database, _ANEW):.0f} ms")
    print(f"  subscriptions themselves: {await anew(database, _COUNTED):.0f} ms")
    await timed("everything at once and nothing folded")
    await fold("all at once")
    await timed("folded just now")
    await execute("VACUUM billhook.daily_changes")
    await execute("VACUUM billhook.subscription_changes")
    await timed("folded")
    await execute(_FILL, "pi_of_a_minute_", MINUTE)
    await timed(f"{MINUTE:,} changes of a minute not folded")
    await fold("of a minute")
    found = await overview(database, "test", 366, today)
    print(f"  a year's answer: {len(OverviewResponse(overview=found).wire()):,} bytes")
    await database.close()


async def anew(database: Database, statement: str) -> float:
    async def ask() -> object:
        async with database.connection() as connection:
            return await connection.fetch(statement)

    return await milliseconds(ask)


def main() -> None:
    """Run it all and print."""
    print(f"overview with {TRANSACTIONS:,} transactions and {SUBSCRIPTIONS:,} subscriptions")
    with migrated() as dsn:
        asyncio.run(measure(dsn))
