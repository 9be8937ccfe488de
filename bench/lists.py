"""The admin lists with 1,000,000 transactions and 100,000 customers: milliseconds a page.

Each page is timed beside a lookup by primary key on the same connection, which is the least that
any answer costs.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from billhook import events, lists
from billhook.db import Database
from billhook.db.embedded import start
from billhook.db.migrate import migrate
from billhook.models import CustomersQuery, EventsQuery, SubscriptionsQuery, TransactionsQuery

TRANSACTIONS = 1_000_000
CUSTOMERS = 100_000
EVENTS = 1_000_000
TIMES = 20

_FILL = f"""
    INSERT INTO payments.customers (
        provider, environment, provider_customer_id, email, name, metadata, raw, deleted)
    SELECT 'stripe', 'test', 'cus_' || n, 'user' || n || '@example.com', 'User ' || n,
        '{{}}', '{{}}', false
    FROM generate_series(1, {CUSTOMERS}) n;
    INSERT INTO payments.transactions (
        provider, environment, type, status, provider_customer_id, customer_email_snapshot,
        provider_object_type, provider_object_id, amount, currency, paid_at, provider_created_at)
    SELECT 'stripe', 'test', 'one_time_payment',
        CASE WHEN n % 100000 = 0 THEN 'pending' ELSE 'succeeded' END,
        'cus_' || (n % {CUSTOMERS} + 1),
        'user' || (n % {CUSTOMERS} + 1) || '@example.com', 'payment_intent', 'pi_' || n,
        100 + n % 900, 'eur', now() - n * interval '10 seconds', now() - n * interval '10 seconds'
    FROM generate_series(1, {TRANSACTIONS}) n;
    INSERT INTO payments.webhook_events (
        provider, environment, event_type, livemode, object_type, object_id, processing_status,
        payload, received_at, provider_event_id)
    SELECT 'stripe', 'test', 'payment_intent.succeeded', false, 'payment_intent', 'pi_' || n,
        CASE WHEN n % 10000 = 0 THEN 'failed' ELSE 'processed' END, '{{}}',
        now() - n * interval '10 seconds', 'evt_' || n
    FROM generate_series(1, {EVENTS}) n;
    INSERT INTO payments.stripe_subscriptions (
        environment, subscription_id, customer_id, status, metadata, raw)
    SELECT 'test', 'sub_' || n, 'cus_' || n, 'active', '{{}}', '{{}}'
    FROM generate_series(1, {CUSTOMERS // 2}) n;
"""

Ask = Callable[[], Awaitable[object]]


async def milliseconds(ask: Ask) -> float:
    """The median of several times."""
    await ask()
    took = []
    for _ in range(TIMES):
        began = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


async def measure(dsn: str) -> None:
    """Fill the tables, and time every list."""
    database = Database(dsn)
    await database.open()
    async with database.connection() as connection:
        await connection.execute(_FILL, timeout=600)
        await connection.execute("VACUUM ANALYZE", timeout=600)
        await connection.execute("CHECKPOINT", timeout=600)

    async def lookup() -> object:
        async with database.connection() as connection:
            return await connection.fetchrow(
                "SELECT * FROM payments.webhook_events WHERE provider = 'stripe' "
                "AND environment = 'test' AND provider_event_id = 'evt_7'"
            )

    base = await milliseconds(lookup)
    print(f"  lookup by key: {base:.1f} ms")
    deep = (await lists.customers(database, "test", CustomersQuery(limit=100))).next_cursor
    asks: dict[str, Ask] = {
        "customers, 100": lambda: lists.customers(database, "test", CustomersQuery(limit=100)),
        "customers, 100, next page": lambda: lists.customers(
            database, "test", CustomersQuery(limit=100, startingAfter=deep)
        ),
        "transactions, 100": lambda: lists.transactions(
            database, "test", TransactionsQuery(limit=100)
        ),
        "transactions of a status": lambda: lists.transactions(
            database, "test", TransactionsQuery(limit=100, status="succeeded")
        ),
        "transactions of a rare status": lambda: lists.transactions(
            database, "test", TransactionsQuery(limit=100, status="pending")
        ),
        "transactions of a customer": lambda: lists.transactions(
            database, "test", TransactionsQuery(limit=100, customer="cus_77")
        ),
        "subscriptions, 100": lambda: lists.subscriptions(
            database, "test", SubscriptionsQuery(limit=100)
        ),
        "events, 100": lambda: events.events(database, "test", EventsQuery(limit=100)),
        "events that failed": lambda: events.events(
            database, "test", EventsQuery(limit=100, status="failed")
        ),
    }
    for name, ask in asks.items():
        took = await milliseconds(ask)
        print(f"  {name}: {took:.1f} ms, {took / base:.1f} lookups")
    await database.close()


def main() -> None:
    """Run it all and print."""
    print(f"lists with {TRANSACTIONS:,} transactions, {CUSTOMERS:,} customers, {EVENTS:,} events")
    with tempfile.TemporaryDirectory(prefix="billhook-bench-") as folder:
        postgres = start(Path(folder) / "postgres")
        try:
            dsn = postgres.create_database("bench")
            asyncio.run(migrate(dsn))
            asyncio.run(measure(dsn))
        finally:
            postgres.stop()
