"""The overview with 1,000,000 transactions in its 30 days and 1,000,000 subscriptions:
milliseconds of the first view, and of later ones."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from bench.database import migrated
from bench.lists import milliseconds
from billhook.models import OverviewResponse
from billhook.postgres import Database
from billhook.reports.overview import overview

TRANSACTIONS = 1_000_000
SUBSCRIPTIONS = 1_000_000
CHANGED = 100_000
DAYS = 30
MINUTE = 60_000
"""Changes of a busy minute: a thousand events a second."""

_FILL = f"""
    INSERT INTO payments.transactions (
        raw, provider, environment, type, status, provider_object_type, provider_object_id, amount,
        currency, paid_at, failed_at, refunded_at, provider_created_at)
    SELECT jsonb_build_object('padding', repeat(md5(n::text), 30)), 'stripe', 'test',
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
_TOUCH = f"""
    UPDATE payments.transactions SET description = 'late'
    WHERE provider_object_id IN (
        SELECT 'pi_' || n * 10 FROM generate_series(1, {CHANGED}) n)
"""


async def measure(dsn: str) -> None:
    """Fill the tables, and time the overview."""
    database = Database(dsn)
    await database.open()
    today = datetime.now(UTC).date()

    async def execute(statement: str, *args: object) -> None:
        async with database.connection() as connection:
            await connection.execute(statement, *args, timeout=900)

    async def ask() -> object:
        return await overview(database, "test", DAYS, today)

    async def timed(name: str) -> None:
        began = time.perf_counter()
        await ask()
        first = (time.perf_counter() - began) * 1000
        print(f"  {name}: {first:.1f} ms, then {await milliseconds(ask):.1f} ms", flush=True)

    await timed("nothing there")
    await execute(_FILL, "pi_", TRANSACTIONS)
    await execute(_SUBSCRIBE)
    await execute("CHECKPOINT")
    await timed("everything at once, and never vacuumed")
    for table in ("transactions", "stripe_subscriptions"):
        await execute(f"VACUUM ANALYZE payments.{table}")
    await timed("vacuumed")
    await execute(_FILL, "pi_of_a_minute_", MINUTE)
    await timed(f"with {MINUTE:,} transactions since")
    await execute(_TOUCH)
    await timed(f"with {CHANGED:,} changed since")
    found = await overview(database, "test", 366, today)
    print(f"  a year's answer: {len(OverviewResponse(overview=found).wire()):,} bytes")
    await database.close()


def main() -> None:
    """Run everything and print."""
    print(f"overview with {TRANSACTIONS:,} transactions and {SUBSCRIPTIONS:,} subscriptions")
    with migrated() as dsn:
        asyncio.run(measure(dsn))
