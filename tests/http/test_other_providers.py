"""InsForge's tables also hold rows of other payment providers: neither changed nor shown."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from api import connect
from billhook.access.secrets import SecretStore
from billhook.ledger import Ledger
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.mirror.status import mirror_status
from billhook.mirror.verify import verify
from billhook.models import RebuildOrder, Verification, Verify
from billhook.postgres import Database
from billhook.reports.overview import overview
from billhook.stripe.gateway import Gateway
from books import Books
from recovering import Station
from stripe_events import customer, event, payment_intent, subject
from stripe_lives import LIFE

# The same ids as Stripe's objects of `LIFE`, which would meet wherever the provider is forgotten.
RAZORPAY = """
INSERT INTO payments.provider_connections (provider, environment, status, provider_account_id)
VALUES ('razorpay', 'test', 'connected', 'acc_1');
INSERT INTO payments.customers (provider, environment, provider_customer_id, email, created_at)
VALUES ('razorpay', 'test', 'cus_1', 'r@example.com', '2020-01-01'),
    ('razorpay', 'test', 'cust_r', 'other@example.com', now());
INSERT INTO payments.customer_mappings (
    provider, environment, subject_type, subject_id, provider_customer_id)
VALUES ('razorpay', 'test', 'team', 't1', 'cus_1'), ('razorpay', 'test', 'team', 'r1', 'cust_r');
INSERT INTO payments.transactions (provider, environment, type, status, provider_object_type,
    provider_object_id, provider_customer_id, subject_type, subject_id, amount, currency, paid_at,
    created_at)
VALUES ('razorpay', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_1', 'cus_1',
        'team', 't1', 990, 'eur', now(), '2020-01-01'),
    ('razorpay', 'test', 'one_time_payment', 'succeeded', 'payment', 'pay_r', 'cust_r',
        'team', 'r1', 880, 'inr', now(), now());
INSERT INTO payments.webhook_events (provider, environment, provider_event_id, event_type, livemode,
    processing_status, payload)
VALUES ('razorpay', 'test', 'evt_r', 'payment.captured', false, 'failed', '{}'),
    ('razorpay', 'test', 'evt_r2', 'payment.captured', false, 'pending', '{}');
"""
TABLES = (
    "provider_connections",
    "customers",
    "customer_mappings",
    "transactions",
    "webhook_events",
)


def rows_of_razorpay(books: Books) -> list[dict[str, Any]]:
    return [
        row
        for table in TABLES
        for row in books.rows(
            f"SELECT to_jsonb(t) AS row FROM payments.{table} t WHERE provider = 'razorpay' "
            "ORDER BY id"
        )
    ]


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    found = Station(database_url, sandbox)
    found.books.execute(RAZORPAY)
    return found


def test_another_stripe_account_neither_archives_nor_restores_rows_of_other_providers(
    station: Station,
) -> None:
    before = rows_of_razorpay(station.books)
    station.books.apply(*LIFE)
    account = station.books.row(
        "SELECT provider_account_id AS id FROM payments.provider_connections "
        "WHERE provider = 'stripe' AND environment = 'test'"
    )
    connect(station.books.dsn, station.sandbox, station.key.replace("recovery", "other"))
    assert rows_of_razorpay(station.books) == before
    assert station.books.rows("SELECT FROM payments.customers WHERE provider = 'stripe'") == []
    connect(station.books.dsn, station.sandbox, station.key)

    async def restored(database: Database) -> int:
        (wanted,) = [
            each for each in await archives.archives(database) if each.account_id == account["id"]
        ]
        return await archives.restore(database, wanted.id)

    assert station.books.run(restored) > 0
    assert rows_of_razorpay(station.books) == before
    assert station.books.rows("SELECT FROM payments.customers WHERE provider = 'stripe'") != []


def test_a_rebuild_with_swap_leaves_rows_of_other_providers_alone(station: Station) -> None:
    before = rows_of_razorpay(station.books)
    station.books.apply(*LIFE)
    # Of an adopted database, and changed by other hands.
    station.books.execute("""
        UPDATE billhook.migrations SET applied_at = '2021-01-01';
        UPDATE payments.customers SET name = 'changed' WHERE provider = 'stripe';
        DELETE FROM payments.transactions WHERE provider = 'stripe';
        DELETE FROM payments.customer_mappings WHERE provider = 'stripe';
    """)

    async def swapped(database: Database) -> dict[str, int]:
        found = await rebuild(database, "test", RebuildOrder(swap=True))
        again = await rebuild(database, "test", RebuildOrder())
        assert {each.table: each.different for each in again.tables if each.different} == {}
        return {each.table: each.rows for each in found.tables}

    rows = station.books.run(swapped)
    assert rows["payments.transactions"] == rows["payments.customer_mappings"] == 0
    assert rows_of_razorpay(station.books) == before
    assert station.books.rows("SELECT FROM payments.transactions WHERE provider = 'stripe'") != []


def test_a_sync_and_verify_repair_leave_rows_of_other_providers_alone(station: Station) -> None:
    before = rows_of_razorpay(station.books)
    station.stripe.v1.customers.create({"name": "Ada"})
    station.sync()
    assert rows_of_razorpay(station.books) == before
    assert station.books.rows("SELECT * FROM billhook.tombstones") == []

    async def repaired(database: Database) -> Verification:
        secrets = SecretStore(database, station.settings)
        gateway = Gateway(secrets.stripe_key, station.sandbox)
        try:
            return await verify(Ledger(database), gateway, "test", Verify(repair=True))
        finally:
            await gateway.close()

    found = station.books.run(repaired)
    assert {each.table: len(each.drift) for each in found.tables} == {
        each.table: 0 for each in found.tables
    }
    assert rows_of_razorpay(station.books) == before
    assert station.books.rows("SELECT * FROM billhook.tombstones") == []


def test_an_event_about_the_same_id_leaves_rows_of_other_providers_alone(station: Station) -> None:
    before = rows_of_razorpay(station.books)
    station.books.apply(*LIFE, event("customer.deleted", customer() | {"deleted": True}, at=500))
    station.books.apply(event("payment_intent.succeeded", payment_intent(metadata=subject())))
    assert rows_of_razorpay(station.books) == before


def test_the_overview_and_the_status_count_stripes_rows_only(station: Station) -> None:
    async def shown(database: Database) -> tuple[Any, Any]:
        today = datetime.now(UTC).date()
        return await overview(database, "test", 7, today), await mirror_status(database, "test")

    figures, status = station.books.run(shown)
    assert figures.currencies == []
    assert status.failed_events == 0
