"""The figures of a business with 1,000,000 payments in three years, 100,000 customers and 120,000
subscriptions: milliseconds of the first view and of later ones, for several periods."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from bench.database import migrated
from bench.lists import milliseconds
from billhook.models import BusinessQuery, BusinessResponse, MovementsQuery, TransactionsQuery
from billhook.postgres import Database
from billhook.reports import lists
from billhook.reports.business import business

PAYMENTS = 1_000_000
CUSTOMERS = 100_000
SUBSCRIPTIONS = 120_000
DAYS = 1095
PERIODS = ("today", "7d", "30d", "90d", "this_month", "this_year", "12m")

_PAYMENTS = f"""
    INSERT INTO payments.transactions (
        raw, provider, environment, type, status, provider_object_type, provider_object_id, amount,
        amount_lost, currency, paid_at, failed_at, refunded_at, disputed_at, provider_created_at)
    SELECT jsonb_build_object('padding', repeat(md5(n::text), 30)), 'stripe', 'test',
        CASE WHEN n % 20 = 0 THEN 'refund' ELSE 'subscription_invoice' END,
        CASE WHEN n % 20 = 0 THEN 'refunded' WHEN n % 19 = 0 THEN 'failed' ELSE 'succeeded' END,
        'payment_intent', 'pi_' || n, 100 + n % 900, CASE WHEN n % 2000 = 1 THEN 100 ELSE 0 END,
        (ARRAY['eur', 'usd'])[1 + n % 2], at, CASE WHEN n % 38 IN (0, 19) THEN at END, at, at, at
    FROM (SELECT n, now() - n * interval '{DAYS} days' / {PAYMENTS} AS at
          FROM generate_series(1, {PAYMENTS}) n) AS each
"""
_CUSTOMERS = f"""
    INSERT INTO payments.customers (provider, environment, provider_customer_id, email, raw,
        provider_created_at)
    SELECT 'stripe', 'test', 'cus_' || n, n || '@example.com', '{{}}',
        now() - n * interval '{DAYS} days' / {CUSTOMERS} FROM generate_series(1, {CUSTOMERS}) n
"""
_SUBSCRIPTIONS = f"""
    INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id, status,
        current_period_end, currency, mrr, renewal_amount, raw)
    SELECT 'test', 'sub_' || n, 'cus_' || (1 + n % {CUSTOMERS}),
        (ARRAY['active', 'active', 'active', 'trialing', 'canceled'])[1 + n % 5],
        now() + n % 30 * interval '1 day', (ARRAY['eur', 'usd'])[1 + n % 2],
        CASE WHEN n % 5 < 3 THEN 2000 ELSE 0 END, CASE WHEN n % 5 < 3 THEN 2000 ELSE 0 END,
        jsonb_build_object('padding', repeat(md5(n::text), 30))
    FROM generate_series(1, {SUBSCRIPTIONS}) n
"""
# Each customer joined, most changed the plan, and half of them left.
_MOVEMENTS = f"""
    INSERT INTO payments.mrr_movements (
        environment, customer_id, currency, day, kind, amount, mrr, latest)
    SELECT 'test', 'cus_' || n, (ARRAY['eur', 'usd'])[1 + n % 2],
        current_date - (n % {DAYS}) * (4 - step) / 4, kind, amount, mrr,
        step = 3 OR step = 2 AND n % 2 = 1
    FROM generate_series(1, {CUSTOMERS}) n, (VALUES
        (0, 'new', 2000, 2000), (1, 'expansion', 1000, 3000), (2, 'contraction', -500, 2500),
        (3, 'churn', -2500, 0)) AS of(step, kind, amount, mrr)
    WHERE step < 3 OR n % 2 = 0
    ON CONFLICT DO NOTHING
"""
_STATES = f"""
    INSERT INTO billhook.subscription_states
    SELECT 'test', 'sub_' || n, now() - month * interval '30 days', 1, 'evt_' || n || '_' || month,
        'cus_' || (1 + n % {CUSTOMERS}), 'eur', 2000, 2000, '[]', '2000 2000', 2000
    FROM generate_series(1, {SUBSCRIPTIONS}) n, generate_series(1, 12) month
"""


async def measure(dsn: str) -> None:
    """Fill the tables, and time the figures and the lists behind them."""
    database = Database(dsn)
    await database.open()

    async def execute(statement: str) -> None:
        async with database.connection() as connection:
            await connection.execute(statement, timeout=3600)

    async def timed(name: str, ask: object) -> None:
        began = time.perf_counter()
        await ask()  # type: ignore[operator]
        first = (time.perf_counter() - began) * 1000
        print(f"  {name}: {first:.1f} ms, then {await milliseconds(ask):.1f} ms", flush=True)  # type: ignore[arg-type]

    async def views(state: str) -> None:
        print(state, flush=True)
        for period in PERIODS:
            asked = BusinessQuery.model_validate({"period": period})

            async def ask(asked: BusinessQuery = asked) -> object:
                found = await business(database, "test", asked, datetime.now(UTC))
                return BusinessResponse(business=found).wire()

            await timed(period, ask)
        for figure in ("failed", "payments", "lost"):
            listed = TransactionsQuery.model_validate({"figure": figure, "currency": "eur"})
            await timed(
                f"list of {figure}", lambda q=listed: lists.transactions(database, "test", q)
            )
        churned = MovementsQuery.model_validate({"kind": "churn"})
        await timed("who churned", lambda: lists.movements(database, "test", churned))

    for statement in (_PAYMENTS, _CUSTOMERS, _SUBSCRIPTIONS, _MOVEMENTS, _STATES, "CHECKPOINT"):
        await execute(statement)
    await views("never vacuumed, never analyzed")
    tables = ("transactions", "customers", "stripe_subscriptions", "mrr_movements")
    for table in tables:
        await execute(f"VACUUM ANALYZE payments.{table}")
    await views("vacuumed")
    size = "SELECT pg_total_relation_size('billhook.subscription_states') / {} AS bytes"
    async with database.connection() as connection:
        print("  bytes a state:", await connection.fetchval(size.format(SUBSCRIPTIONS * 12)))
    await database.close()


def main() -> None:
    """Run everything and print."""
    print(f"a business with {PAYMENTS:,} payments and {CUSTOMERS:,} customers")
    with migrated() as dsn:
        asyncio.run(measure(dsn))
