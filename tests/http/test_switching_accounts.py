"""Another Stripe account is connected: whose events come before, meanwhile and late."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from api import Api, serving
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.ledger import decode
from billhook.ledger.replaying import project_again
from billhook.ledger.transaction import OtherAccount
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder
from billhook.postgres import Database
from billhook.settings import Settings
from billhook.stripe.gateway import Fetched
from books import Books, apply_one
from http_tokens import JWT_SECRET
from stripe_events import customer, event, payload

_accounts = count()
SECRETS = {"stripe_test_webhook_secret": SecretStr("whsec_first,whsec_second")}
REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
    CREATE TRIGGER refuse AFTER UPDATE ON payments.webhook_events FOR EACH ROW
    WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION refuse()
"""
NO_MORE = "DROP FUNCTION refuse CASCADE"

WAITS = """
    SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


@pytest.fixture
def by_hand(database_url: str, sandbox: str) -> Iterator[Api]:
    """Billhook with the signing secrets of two endpoints that are managed by hand."""
    with serving(database_url, sandbox, **SECRETS) as found:
        yield found


def new_key() -> str:
    return f"sk_test_switch{next(_accounts)}x{id(_accounts)}_1"


def connect(api: Api, key: str) -> str:
    """Set a key. Returns its account."""
    answer = api.admin("PUT", "/test/config", {"secretKey": key})
    assert answer.status_code == 200, answer.text
    return str(api.admin("GET", "/status").json()["connections"][0]["accountId"])


def deliver(api: Api, secret: str, told: dict[str, Any] | None = None) -> httpx.Response:
    told = told or event("customer.created", customer(f"cus_{next(_accounts)}"))
    return api.deliver(told, secret=secret)


def shown(books: Books) -> list[str]:
    rows = books.rows("SELECT provider_customer_id AS id FROM payments.customers ORDER BY 1")
    return [row["id"] for row in rows]


def restore(books: Books, account: str) -> None:
    kept = [each for each in books.run(archives.archives) if each.restored_at is None]
    wanted = next(each.id for each in kept if each.account_id == account)
    books.run(lambda database: archives.restore(database, wanted))


def test_deliveries_of_the_account_before_are_not_booked_to_the_one_that_is_connected_now(
    by_hand: Api,
) -> None:
    first, second = new_key(), new_key()
    before = connect(by_hand, first)
    assert deliver(by_hand, "whsec_first").status_code == 200
    now = connect(by_hand, second)
    late = event("customer.created", customer("cus_late"))
    with capture_logs() as logged:
        refused = deliver(by_hand, "whsec_first", late)
    assert (refused.status_code, refused.json()["error"]) == (409, "PAYMENT_CONFIG_INVALID")
    assert f"account {before}, but {now} is connected" in refused.json()["message"]
    assert before in refused.json()["nextActions"]
    (warning,) = [line for line in logged if "another Stripe account" in line["event"]]
    assert (warning["event_id"], warning["account"]) == (late["id"], before)
    assert shown(by_hand.books) == []
    known = "SELECT FROM payments.webhook_events WHERE provider_event_id = $1"
    assert by_hand.books.rows(known, late["id"]) == []

    own = event("customer.created", customer("cus_own"))
    assert deliver(by_hand, "whsec_second", own).status_code == 200
    assert shown(by_hand.books) == ["cus_own"]
    connect(by_hand, first)
    assert deliver(by_hand, "whsec_first", late).status_code == 200
    assert deliver(by_hand, "whsec_second").status_code == 409
    assert shown(by_hand.books) == ["cus_late"]


def test_every_process_refuses_deliveries_of_the_account_before_from_the_switch_on(
    by_hand: Api, sandbox: str
) -> None:
    connect(by_hand, new_key())
    with serving(by_hand.books.dsn, sandbox, **SECRETS) as other:
        assert deliver(other, "whsec_first").status_code == 200
        connect(by_hand, new_key())
        assert deliver(other, "whsec_first").status_code == 409
        assert deliver(by_hand, "whsec_first").status_code == 409
        # What the other process has never seen used, this one has.
        assert deliver(by_hand, "whsec_second").status_code == 200
        assert deliver(other, "whsec_second").status_code == 200
        connect(by_hand, new_key())
        assert deliver(other, "whsec_second").status_code == 409


def test_a_signing_secret_used_before_any_key_was_set_belongs_to_the_first_account(
    by_hand: Api,
) -> None:
    assert deliver(by_hand, "whsec_first").status_code == 200
    first = new_key()
    connect(by_hand, first)
    assert deliver(by_hand, "whsec_first").status_code == 200
    by_hand.admin("DELETE", "/test/config")
    assert deliver(by_hand, "whsec_first").status_code == 200
    assert len(shown(by_hand.books)) == 3
    connect(by_hand, new_key())
    assert deliver(by_hand, "whsec_first").status_code == 409
    assert shown(by_hand.books) == []


@pytest.mark.parametrize("failed", [False, True])
def test_an_event_that_comes_while_a_switch_begins_stays_with_its_account(
    database_url: str, failed: bool
) -> None:
    """The switch began before the event arrived, and replaced the account after it."""
    books = Books(database_url)
    told = event("customer.created", customer("cus_of_first"))
    settings = Settings(
        database_url=SecretStr(database_url), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
    )

    async def switch(database: Database) -> None:
        connections = Connections(database, SecretStore(database, settings))
        await connections.connected("test", Fetched({"id": "acct_first"}, 1))
        async with database.as_service() as holder:
            await holder.execute("SELECT FROM payments.provider_connections FOR UPDATE")
            switching = asyncio.create_task(
                connections.connected("test", Fetched({"id": "acct_second"}, 1))
            )
            async with database.connection() as connection:
                while not await connection.fetch(WAITS):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            await apply_one(database, told)
        await switching

    async def replay(database: Database) -> None:
        await project_again(database, "test", decode(payload(told)))

    async def differing(database: Database) -> int:
        tables = (await rebuild(database, "test", RebuildOrder())).tables
        return sum(each.different for each in tables)

    if failed:
        books.execute(REFUSE)
    books.run(switch)
    if failed:
        books.execute(NO_MORE)
        with pytest.raises(OtherAccount, match="account acct_first, but acct_second is connected"):
            books.apply(told)
    assert shown(books) == []
    assert books.run(differing) == 0
    with pytest.raises(OtherAccount):
        books.run(replay)
    assert shown(books) == []

    async def switch_back(database: Database) -> None:
        connections = Connections(database, SecretStore(database, settings))
        await connections.connected("test", Fetched({"id": "acct_first"}, 1))

    books.run(switch_back)
    restore(books, "acct_first")
    (entry,) = books.apply(told)
    assert (entry["processing_status"], entry["handled"]) == ("processed", failed)
    assert shown(books) == ["cus_of_first"]
    assert books.run(differing) == 0


def test_an_event_that_failed_is_applied_whenever_its_account_is_connected_again(
    by_hand: Api,
) -> None:
    first, second = new_key(), new_key()
    connect(by_hand, first)
    by_hand.books.execute(REFUSE)
    told = {
        secret: event("customer.created", customer(f"cus_of_{secret}"))
        for secret in ("whsec_first", "whsec_second")
    }
    assert deliver(by_hand, "whsec_first", told["whsec_first"]).status_code == 500
    connect(by_hand, second)
    assert deliver(by_hand, "whsec_second", told["whsec_second"]).status_code == 500
    by_hand.books.execute(NO_MORE)
    # Times say nothing about whose an event is: an app may change them, and clocks are set.
    by_hand.books.execute("UPDATE payments.webhook_events SET received_at = '2020-01-01'")
    for key, of_one, of_other in (
        (first, "whsec_first", "whsec_second"),
        (second, "whsec_second", "whsec_first"),
    ):
        connect(by_hand, key)
        refused = by_hand.admin("POST", f"/test/webhook-events/{told[of_other]['id']}/replay")
        assert refused.status_code == 409, refused.text
        answer = deliver(by_hand, of_one, told[of_one])
        assert (answer.status_code, answer.json()["handled"]) == (200, True)
        assert shown(by_hand.books) == [f"cus_of_{of_one}"]
