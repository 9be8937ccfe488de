"""The admin lists with 1,000,000 transactions and 100,000 customers: milliseconds a page.

Each page is timed beside a lookup by primary key on the same connection, which is the minimum cost
of any response.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from bench.database import migrated
from billhook.models import CustomersQuery, EventsQuery, SubscriptionsQuery, TransactionsQuery
from billhook.postgres import Database
from billhook.reports import lists

TRANSACTIONS = 1_000_000
CUSTOMERS = 100_000
EVENTS = 1_000_000
PRODUCTS = 10_000
TIMES = 20

# Of twenty transactions, one is a refund of the previous one and one failed; the others are
# invoices and one-time payments. A payment has an invoice or a checkout session in addition to its
# PaymentIntent.
_FILL = f"""
    INSERT INTO payments.customers (
        provider, environment, provider_customer_id, email, name, metadata, raw, deleted,
        provider_created_at)
    SELECT 'stripe', 'test', 'cus_' || n, 'user' || n || '@example.com', 'User ' || n,
        '{{}}', '{{}}', false, now() - n * interval '5 minutes'
    FROM generate_series(1, {CUSTOMERS}) n;
    INSERT INTO payments.transactions (
        provider, environment, type, status, provider_customer_id, customer_email_snapshot,
        subject_type, subject_id, provider_object_type, provider_object_id, related_object_ids,
        payment_id, amount, amount_refunded, currency, paid_at, provider_created_at)
    SELECT 'stripe', 'test', kind,
        CASE WHEN n % 100000 = 50 THEN 'pending' WHEN kind = 'failed_payment' THEN 'failed'
             WHEN kind = 'refund' THEN 'refunded' WHEN n % 20 = 19 THEN 'partially_refunded'
             ELSE 'succeeded' END,
        'cus_' || buyer, 'user' || buyer || '@example.com', 'team', 't' || buyer,
        CASE WHEN kind = 'refund' THEN 'refund' ELSE 'payment_intent' END,
        CASE WHEN kind = 'refund' THEN 're_' ELSE 'pi_' END || n,
        jsonb_build_object('payment_intent', 'pi_' || payment, 'charge', 'ch_' || payment)
        || CASE WHEN payment % 2 = 0 THEN
            jsonb_build_object('invoice', 'in_' || payment, 'subscription', 'sub_' || buyer)
            ELSE jsonb_build_object('checkout_session', 'cs_' || payment) END
        || CASE WHEN kind = 'refund' THEN jsonb_build_object('refund', 're_' || n) ELSE '{{}}' END,
        payment, 100 + n % 900, CASE WHEN n % 20 IN (0, 19) THEN 50 ELSE 0 END, 'eur',
        now() - n * interval '10 seconds', now() - n * interval '10 seconds'
    FROM generate_series(1, {TRANSACTIONS}) n
    CROSS JOIN LATERAL (
        SELECT CASE WHEN n % 20 = 0 THEN n - 1 ELSE n END AS payment) AS p
    CROSS JOIN LATERAL (
        SELECT payment % {CUSTOMERS} + 1 AS buyer,
            CASE WHEN n % 20 = 0 THEN 'refund' WHEN n % 20 = 7 THEN 'failed_payment'
                 WHEN n % 2 = 0 THEN 'subscription_invoice' ELSE 'one_time_payment' END AS kind
    ) AS k;
    INSERT INTO billhook.payment_refs (environment, object_type, object_id, payment_id)
    SELECT 'test', ref.key, ref.value, t.payment_id
    FROM payments.transactions t CROSS JOIN LATERAL jsonb_each_text(t.related_object_ids) AS ref
    WHERE t.type <> 'refund' AND ref.key <> 'subscription'
    ORDER BY ref.key, ref.value;
    INSERT INTO payments.webhook_events (
        provider, environment, event_type, livemode, object_type, object_id, processing_status,
        payload, received_at, provider_event_id)
    SELECT 'stripe', 'test', kind[1] || '.' || kind[2 + n / 10 % 4], false, kind[1],
        kind[1] || '_' || n,
        CASE WHEN n % 10000 = 0 THEN 'failed' WHEN n % 3 = 0 THEN 'ignored' ELSE 'processed' END,
        '{{}}', now() - n * interval '10 seconds', 'evt_' || n
    FROM generate_series(1, {EVENTS}) n
    CROSS JOIN LATERAL (SELECT ARRAY[
        (ARRAY['payment_intent', 'charge', 'invoice', 'customer', 'customer.subscription',
               'checkout.session', 'refund', 'product', 'price', 'invoice_payment'])[1 + n % 10],
        'created', 'updated', 'succeeded', 'failed'] AS kind) AS k;
    INSERT INTO payments.stripe_subscriptions (
        environment, subscription_id, customer_id, subject_type, subject_id, status,
        current_period_end, updated_at)
    SELECT 'test', 'sub_' || n, 'cus_' || n, 'team', 't' || n,
        CASE WHEN n % 10000 = 0 THEN 'past_due' WHEN n % 5 = 0 THEN 'canceled' ELSE 'active' END,
        now() + n * interval '1 minute', now() - n * interval '1 minute'
    FROM generate_series(1, {CUSTOMERS // 2}) n;
    INSERT INTO payments.stripe_products (environment, product_id, name, active)
    SELECT 'test', 'prod_' || n, 'Tea no. ' || n, n % 10 > 0 FROM generate_series(1, {PRODUCTS}) n;
    INSERT INTO payments.stripe_prices (
        environment, price_id, product_id, active, currency, unit_amount, type, lookup_key)
    SELECT 'test', 'price_' || n, 'prod_' || n % {PRODUCTS} + 1, true, 'eur', n, 'one_time',
        'key_' || n
    FROM generate_series(1, {3 * PRODUCTS}) n;
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
        await connection.execute(_FILL, timeout=1800)
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
    day, month = (
        f"{datetime.now(UTC) - timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}" for days in (1, 30)
    )
    asks: dict[str, Ask] = {
        "customers, 100": lambda: lists.customers(database, "test", CustomersQuery(limit=100)),
        "customers, 100, next page": lambda: lists.customers(
            database, "test", CustomersQuery(limit=100, startingAfter=deep)
        ),
        "customers found, by email and name": lambda: lists.customers(
            database, "test", CustomersQuery(limit=100, search="user9")
        ),
        "customers found, the newest of all": lambda: lists.customers(
            database, "test", CustomersQuery(limit=100, search="user", order="newest")
        ),
        "customers found, the newest of a few": lambda: lists.customers(
            database, "test", CustomersQuery(limit=100, search="user99", order="newest")
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
        "the largest transactions of a day": lambda: lists.transactions(
            database, "test", TransactionsQuery(limit=100, order="largest", since=day)
        ),
        "the largest transactions of a month": lambda: lists.transactions(
            database, "test", TransactionsQuery(limit=100, order="largest", since=month)
        ),
        "transactions of a customer": lambda: lists.transactions(
            database, "test", TransactionsQuery(limit=100, customer="cus_77")
        ),
        "subscriptions, 100": lambda: lists.subscriptions(
            database, "test", SubscriptionsQuery(limit=100)
        ),
        "events, 100": lambda: lists.events(database, "test", EventsQuery(limit=100)),
        "events that failed": lambda: lists.events(
            database, "test", EventsQuery(limit=100, status="failed")
        ),
    }
    for name, ask in asks.items():
        took = await milliseconds(ask)
        print(f"  {name}: {took:.1f} ms, {took / base:.1f} lookups")
    await database.close()


def main() -> None:
    """Run everything and print."""
    print(f"lists with {TRANSACTIONS:,} transactions, {CUSTOMERS:,} customers, {EVENTS:,} events")
    with migrated() as dsn:
        asyncio.run(measure(dsn))
