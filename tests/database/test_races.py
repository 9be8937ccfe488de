"""Two events at the same moment, in the narrowest interleavings: the second begins while the first
is done but not committed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

import stripe_events
from api import STRIPE_KEY
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.ledger import Ledger, decode
from billhook.ledger.replaying import replay
from billhook.ledger.transaction import Work, apply_batch
from billhook.postgres import Connection, Database
from billhook.postgres.leases import try_lease
from billhook.projections import project
from billhook.settings import Settings
from billhook.stripe.gateway import Fetched
from books import Books, final_state
from http_tokens import JWT_SECRET
from stripe_events import charge, customer, event, payment_intent, refund, session, subject


async def apply_in(connection: Connection, told: dict[str, Any]) -> None:
    delivery = decode(stripe_events.payload(told))
    await apply_batch(connection, "test", [Work(delivery, project(delivery.event))])


async def apply(database: Database, told: dict[str, Any]) -> None:
    await Ledger(database).record("test", decode(stripe_events.payload(told)))


async def overlapping(database: Database, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Apply `first`; begin `second` before it commits, and let it get as far as it can."""
    async with database.as_service() as connection:
        await apply_in(connection, first)
        running = asyncio.create_task(apply(database, second))
        blocked = False
        while not (blocked or running.done()):
            # Not pg_stat_activity: a transaction sees that as it was at the first look.
            blocked = await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
            )
    await running


def bought(name: str, buyer: str, at: int) -> dict[str, Any]:
    metadata = {"insforge_checkout_mode": "payment", **subject()}
    of = session(name, customer=buyer, payment_intent=f"pi_{name}", metadata=metadata)
    return event("checkout.session.completed", of, at=at)


def in_turn(books: Books, *events: dict[str, Any]) -> dict[str, list[str]]:
    books.apply(*events)
    return final_state(books)


def test_a_key_of_another_account_waits_for_a_sync_that_is_writing(books: Books) -> None:
    given = {"database_url": SecretStr(books.dsn), "jwt_secret": SecretStr(JWT_SECRET)}
    settings = Settings(**given, _env_file=None)

    async def work(database: Database) -> None:
        connections = Connections(database, SecretStore(database, settings))
        await connections.connected("test", Fetched({"id": "acct_1"}, 1))
        async with try_lease(database, "sync:test") as lease, database.as_service() as connection:
            assert lease is not None
            await lease.check(connection)
            running = asyncio.create_task(
                connections.connected("test", Fetched({"id": "acct_2"}, 2), key=STRIPE_KEY)
            )
            blocked = False
            while not (blocked or running.done()):
                blocked = await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
                )
            await connection.execute(
                "UPDATE payments.provider_connections SET last_sync_status = 'succeeded'"
            )
        await running
        assert await connections.account_id("test") == "acct_2"

    books.run(work)


def test_an_event_on_its_way_while_another_account_is_connected_goes_with_its_own(
    books: Books,
) -> None:
    given = {"database_url": SecretStr(books.dsn), "jwt_secret": SecretStr(JWT_SECRET)}
    settings = Settings(**given, _env_file=None)

    async def work(database: Database) -> None:
        connections = Connections(database, SecretStore(database, settings))
        await connections.connected("test", Fetched({"id": "acct_1"}, 1))
        async with database.as_service() as connection:
            await apply_in(connection, bought("cs_1", "cus_1", 1))
            told = Fetched({"id": "acct_2"}, 2)
            running = asyncio.create_task(connections.connected("test", told))
            blocked = False
            while not (blocked or running.done()):
                blocked = await connection.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
                )
        await running

    books.run(work)
    assert books.rows("SELECT * FROM payments.transactions") == []
    archived = books.rows("SELECT DISTINCT relation FROM billhook.archived_rows")
    assert {"relation": "payments.transactions"} in archived


# Each: what was before, and two events at once.
MERGE = (
    [
        event("refund.created", refund("re_1", charge="ch_1", payment_intent=None), at=1),
        event(
            "payment_intent.succeeded",
            payment_intent(
                "pi_1",
                customer="cus_1",
                latest_charge=None,
                metadata={"insforge_checkout_mode": "payment"},
            ),
            at=2,
        ),
    ],
    event("charge.refunded", charge("ch_1", payment_intent="pi_1", customer="cus_1"), at=3),
    bought("cs_1", "cus_1", at=4),
)
DELETION = (
    [
        event("customer.created", customer("cus_1"), at=0),
        event("customer.created", customer("cus_2"), at=0),
        event("customer.created", customer("cus_3"), at=0),
        event(
            "customer.subscription.created",
            stripe_events.subscription("sub_1", customer="cus_1", metadata=subject()),
            at=1,
        ),
        bought("cs_2", "cus_2", at=2),
    ],
    event("customer.deleted", customer("cus_2"), at=3),
    bought("cs_3", "cus_3", at=4),
)


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("case", [MERGE, DELETION], ids=["merge", "deletion"])
def test_two_events_at_once_end_as_one_after_the_other(
    books: Books, postgres: Any, template: str, case: Any, swapped: bool
) -> None:
    before, one, other = case
    first, second = (other, one) if swapped else (one, other)
    books.apply(*before)
    books.run(lambda database: overlapping(database, first, second))
    at_once = final_state(books)

    name = "one_after_the_other"
    books.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
    books.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    try:
        assert at_once == in_turn(Books(postgres.dsn(name)), *before, one, other)
    finally:
        books.execute(f"DROP DATABASE {name} WITH (FORCE)")
    subjects = books.rows("SELECT subject_id FROM payments.transactions WHERE type <> 'refund'")
    assert {row["subject_id"] for row in subjects} == {"t1"}


def test_an_ignored_event_replayed_by_many_at_once_is_fulfilled_once(books: Books) -> None:
    books.execute("""
        CREATE TABLE fired (event_id text);
        CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO fired VALUES (NEW.provider_event_id); RETURN NULL; END $$;
        CREATE TRIGGER fire AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION fire()""")
    expired = session("cs_x", status="expired", payment_status="unpaid", metadata={})
    (told,) = books.apply(event("checkout.session.expired", expired, id="evt_x"))
    assert told["processing_status"] == "ignored"
    books.execute("""
        INSERT INTO payments.stripe_checkout_sessions (environment, mode, status, line_items,
            success_url, cancel_url, metadata, checkout_session_id)
        VALUES ('test', 'payment', 'open', '[]', 'https://shop.test', 'https://shop.test', '{}',
            'cs_x')""")

    async def many(database: Database) -> set[str]:
        ledger = Ledger(database)
        replays = (replay(ledger, "test", "evt_x", refire=False) for _ in range(6))
        found = await asyncio.gather(*replays)
        await ledger.close()
        return {each.processing_status for each in found}

    try:
        assert books.run(many) == {"processed"}
        assert books.rows("SELECT event_id FROM fired") == [{"event_id": "evt_x"}]
    finally:
        books.execute("DROP TABLE fired; DROP FUNCTION fire CASCADE")
