"""A key of another account is set while work for the account before is under way: nothing of it is
written among the new account's rows, and nothing is lost."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any

import pytest

import billhook.mirror.archives
import billhook.mirror.rebuild
from api import connect
from billhook.access.secrets import SecretStore
from billhook.errors import BillhookError
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.models import CreateProduct, RebuildOrder
from billhook.postgres import Database
from billhook.postgres.leases import LeaseLost
from billhook.reports.catalog import create_product
from billhook.stripe.gateway import Gateway
from odd_stripe import odd
from recovering import Station
from stripe_events import event, payment_intent, refund

ACCOUNT = "SELECT provider_account_id AS id FROM payments.provider_connections"
MONEY = "SELECT provider_object_id AS id FROM payments.transactions"
WAITS = "SELECT FROM pg_locks WHERE NOT granted"
BLOCKED = """
SELECT FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE d.datname = current_database() AND relation = $1::text::regclass AND NOT granted
"""


def other_key(station: Station) -> str:
    return station.key.replace("recovery", "other")


def oldest_archive(station: Station) -> archives.Archive:
    kept = [each for each in station.books.run(archives.archives) if each.restored_at is None]
    return min(kept, key=lambda each: each.archived_at)


def test_a_refresh_of_the_account_before_writes_nothing(database_url: str, sandbox: str) -> None:
    station = Station(database_url, sandbox)
    station.bought()
    (intent,) = station.stripe.v1.payment_intents.list().data
    # A refund whose payment is not known yet: in a minute the worker asks for it.
    of = {"payment_intent": intent.id, "charge": intent.latest_charge}
    station.books.apply(event("refund.created", refund(**of)))
    switched = []

    def switch(path: str, _answer: Any) -> None:
        if path == f"/v1/payment_intents/{intent.id}" and not switched:
            switched.append(path)
            connect(database_url, sandbox, other_key(station))

    with odd(sandbox, switch) as station.sandbox, suppress(LeaseLost):
        station.refresh()
    assert switched
    assert station.books.rows(MONEY) == []
    assert station.books.rows("SELECT event_type FROM billhook.fetched_payments") == []


def test_a_product_that_was_created_in_the_account_before_is_not_mirrored(
    database_url: str, sandbox: str
) -> None:
    station = Station(database_url, sandbox)

    def switch(path: str, _answer: Any) -> None:
        if path == "/v1/products":
            connect(database_url, sandbox, other_key(station))

    async def work(database: Database) -> None:
        gateway = Gateway(SecretStore(database, station.settings).stripe_key, station.sandbox)
        with pytest.raises(LeaseLost, match="Another Stripe account was connected"):
            await create_product(database, gateway, "test", CreateProduct(name="Tea"))
        await gateway.close()

    with odd(sandbox, switch) as station.sandbox:
        station.books.run(work)
    assert station.books.rows("SELECT product_id FROM payments.stripe_products") == []


def test_a_rebuild_of_the_account_before_is_not_swapped(
    database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = Station(database_url, sandbox)
    station.books.apply(event("payment_intent.succeeded", payment_intent()))
    hold_writers = billhook.mirror.rebuild.hold_writers

    async def after_a_switch(connection: Any) -> None:
        await asyncio.to_thread(connect, database_url, sandbox, other_key(station))
        await hold_writers(connection)

    monkeypatch.setattr(billhook.mirror.rebuild, "hold_writers", after_a_switch)

    async def work(database: Database) -> None:
        with pytest.raises(BillhookError, match="Another Stripe account was connected"):
            await rebuild(database, "test", RebuildOrder(swap=True))

    station.books.run(work)
    assert station.books.rows(MONEY) == []


def test_a_switch_waits_for_a_restoration_and_archives_what_it_brought_back(
    database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = Station(database_url, sandbox)
    station.books.apply(event("payment_intent.succeeded", payment_intent()))
    mine = station.books.row(ACCOUNT)
    connect(database_url, sandbox, other_key(station))
    others = station.books.row(ACCOUNT)
    connect(database_url, sandbox, station.key)  # back, and about to be restored
    kept = oldest_archive(station)
    switching = threading.Thread(target=connect, args=(database_url, sandbox, other_key(station)))
    hold_writers = billhook.mirror.archives.hold_writers

    async def while_a_switch_begins(connection: Any) -> None:
        switching.start()
        while switching.is_alive() and not await connection.fetch(WAITS):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        await hold_writers(connection)

    station.books.execute("DELETE FROM billhook.leases")  # no lease is what it waits for
    monkeypatch.setattr(billhook.mirror.archives, "hold_writers", while_a_switch_begins)
    station.books.run(lambda database: archives.restore(database, kept.id))
    switching.join()
    assert mine != others
    assert station.books.row(ACCOUNT) == others
    assert station.books.rows(MONEY) == []
    (last,) = [
        each for each in station.books.run(archives.archives) if each.account_id == mine["id"]
    ][:1]
    content = "SELECT content ->> 'provider_object_id' AS id FROM billhook.archived_rows"
    of_money = f"{content} WHERE archive_id = $1 AND relation = 'payments.transactions'"
    assert station.books.rows(of_money, last.id) == [{"id": "pi_1"}]


def test_a_sync_that_a_restoration_overtakes_starts_over(database_url: str, sandbox: str) -> None:
    station = Station(database_url, sandbox)
    connect(database_url, sandbox, other_key(station))
    connect(database_url, sandbox, station.key)
    kept = oldest_archive(station)
    read: list[str] = []

    def restore(path: str, _answer: Any) -> None:
        if path == "/v1/products" and path not in read:
            read.append(path)
            station.books.run(lambda database: archives.restore(database, kept.id))
        elif path == "/v1/account":
            read.append(path)

    with odd(sandbox, restore) as station.sandbox:
        station.sync()
    assert read == ["/v1/account", "/v1/products", "/v1/account"]


SESSIONS = {
    "payments.stripe_checkout_sessions": """
        INSERT INTO payments.stripe_checkout_sessions (environment, mode, success_url, cancel_url)
        VALUES ('test', 'payment', 'https://shop.test', 'https://shop.test')
    """,
    "payments.stripe_customer_portal_sessions": """
        INSERT INTO payments.stripe_customer_portal_sessions
            (environment, subject_type, subject_id)
        VALUES ('test', 'user', 'u1')
    """,
}


@pytest.mark.parametrize("table", SESSIONS)
def test_a_session_that_is_being_created_is_archived_with_its_account(
    database_url: str, sandbox: str, table: str
) -> None:
    station = Station(database_url, sandbox)
    switching = threading.Thread(target=connect, args=(database_url, sandbox, other_key(station)))

    async def create(database: Database) -> None:
        async with database.as_service() as connection:
            await connection.execute(SESSIONS[table])
            switching.start()
            while switching.is_alive() and not await connection.fetch(BLOCKED, table):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    station.books.run(create)
    switching.join()
    assert station.books.rows(f"SELECT FROM {table}") == []
    archived = "SELECT FROM billhook.archived_rows WHERE relation = $1"
    assert len(station.books.rows(archived, table)) == 1
