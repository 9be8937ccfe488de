"""Comparing the mirror with Stripe's lists costs no more than its rows, even in a database that
PostgreSQL has never analysed."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from unittest.mock import Mock

from billhook.kinds import KINDS
from billhook.mirror.fetching import StripeReader
from billhook.mirror.sync.reading import absent
from billhook.mirror.verify.extra import Sums, extra_payments, extra_refunds
from billhook.models import VerifiedTable
from billhook.postgres import Database
from books import Books

ROWS = 10_000
_FILL = f"""
    INSERT INTO payments.transactions (
        provider, environment, type, status, provider_object_type, provider_object_id, payment_id,
        amount, currency, paid_at, provider_created_at)
    SELECT 'stripe', 'test', CASE kind WHEN 'refund' THEN 'refund' ELSE 'one_time_payment' END,
        'refunded', kind, kind || n, n, 100, 'eur', now() - n * '1 s'::interval,
        now() - n * '1 s'::interval
    FROM generate_series(1, {ROWS}) n, unnest(ARRAY['payment_intent', 'refund']) kind;
    INSERT INTO billhook.payment_refs
    SELECT 'test', kind, kind || n, n
    FROM generate_series(1, {ROWS}) n, unnest(ARRAY['payment_intent', 'charge']) kind;
    INSERT INTO payments.stripe_invoices (environment, invoice_id, status, provider_event_at)
    SELECT 'test', 'invoice' || n, 'paid', now() - n * '1 s'::interval
    FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.customers (provider, environment, provider_customer_id)
    SELECT 'stripe', 'test', 'customer' || n FROM generate_series(1, {ROWS}) n;
    INSERT INTO payments.customer_mappings (
        provider, environment, provider_customer_id, subject_type, subject_id)
    SELECT 'stripe', 'test', 'customer' || n, 'team', 't' || n FROM generate_series(1, {ROWS}) n;
"""

Compare = Callable[[StripeReader, set[str], int, VerifiedTable], Awaitable[object]]


async def _payments(reader: StripeReader, seen: set[str], at: int, found: VerifiedTable) -> None:
    await extra_payments(reader, 0, at, seen, found, Sums(), repair=False)


async def _refunds(reader: StripeReader, seen: set[str], at: int, found: VerifiedTable) -> None:
    await extra_refunds(reader, 0, at, seen, found, Sums(), repair=False)


def _absent(kind: str) -> Compare:
    async def compare(reader: StripeReader, seen: set[str], at: int, found: VerifiedTable) -> None:
        missing, found.unconfirmed = await absent(reader, KINDS[kind], seen, at, 500)
        assert not missing

    return compare


def test_a_large_mirror_is_compared_within_seconds_per_list(books: Books) -> None:
    books.execute(_FILL)
    at = int(time.time()) + 60

    async def within(database: Database) -> None:
        reader = StripeReader(database, Mock(), "test")
        for compare, name in (
            (_payments, "payment_intent"),
            (_refunds, "refund"),
            (_absent("invoice"), "invoice"),
            (_absent("customer"), "customer"),
        ):
            seen, found = {f"{name}{n + 1}" for n in range(ROWS)}, VerifiedTable(table=name)
            begun = time.monotonic()
            await compare(reader, seen, at, found)
            took = time.monotonic() - begun
            assert (found.unconfirmed, took < 10) == (0, True), (name, took)

    books.run(within)
