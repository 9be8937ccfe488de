"""An import brings in what happened before the account was connected."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from threading import Event
from typing import Any

import httpx
import pytest
from test_sync import Account

from api import Api, connect, serving
from billhook.client import AsyncClient, Client
from billhook.mirror import history
from billhook.mirror.history import History, reading
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe import list_pages
from billhook.stripe.gateway import Gateway
from cli import Billhook
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token


@pytest.fixture
def account(sandbox: str) -> Iterator[Account]:
    found = Account(sandbox)
    yield found
    found.http.close()


@pytest.fixture
def shop(account: Account) -> Account:
    """An account with a past: paid, declined, refunded, released and subscribed."""
    live_a_while(account)
    return account


@pytest.fixture(autouse=True)
def recovered(sandbox: str) -> Iterator[None]:
    """Other tests have the same sandbox."""
    yield
    httpx.post(f"{sandbox}/_sandbox/recover", json={}, timeout=60).raise_for_status()


def live_a_while(account: Account) -> None:
    def intent(**given: Any) -> Any:
        return account.http.post(
            "/v1/payment_intents",
            data={"amount": "900", "currency": "eur", "confirm": "true"} | given,
        ).json()

    customer = account.post("/v1/customers", name="Ada")["id"]
    paid = intent(payment_method="pm_card_visa", customer=customer)
    account.post("/v1/refunds", payment_intent=paid["id"], amount="200")
    declined = intent(payment_method="pm_card_chargeDeclined")["error"]["payment_intent"]
    account.post(f"/v1/payment_intents/{declined['id']}/confirm", payment_method="pm_card_visa")
    intent(payment_method="pm_card_chargeDeclined")
    held = intent(payment_method="pm_card_visa", capture_method="manual")
    account.post(f"/v1/payment_intents/{held['id']}/cancel")
    part = intent(payment_method="pm_card_visa", capture_method="manual")
    account.post(f"/v1/payment_intents/{part['id']}/capture", amount_to_capture="600")
    account.subscribe(insforge_subject_type="team", insforge_subject_id="t1")


@pytest.fixture
def served(database_url: str, sandbox: str, shop: Account) -> Iterator[Api]:
    """Billhook connected to `shop` an hour after all that, without a recovery worker."""
    connect(database_url, sandbox, shop.key)
    with serving(database_url, sandbox) as found:
        found.books.execute("UPDATE billhook.pulls SET since = since + interval '1 hour'")
        yield found


def imported(api: Api, **order: Any) -> Any:
    """Import, and return the progress at the end."""
    answer = api.admin("POST", "/test/import", order)
    assert answer.status_code == 202, answer.text
    deadline = time.monotonic() + 60
    while (found := api.admin("GET", "/test/import").json())["status"] != "finished":
        assert found["error"] is None, found
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def transactions(api: Api) -> list[tuple[Any, ...]]:
    rows = api.books.rows(
        "SELECT type, status, amount, amount_refunded FROM payments.transactions ORDER BY 1, 2, 3"
    )
    return [tuple(row.values()) for row in rows]


def test_payments_from_before_the_connection_become_rows(served: Api) -> None:
    found = imported(served)
    assert transactions(served) == [
        ("failed_payment", "failed", 900, 0),
        ("failed_payment", "failed", 900, 0),
        ("one_time_payment", "partially_refunded", 900, 200),
        ("one_time_payment", "succeeded", 600, 0),
        ("one_time_payment", "succeeded", 900, 0),
        ("refund", "refunded", 200, 200),
        ("subscription_invoice", "succeeded", 900, 0),
    ]
    assert found["completeSince"] is not None


def test_verification_covers_the_whole_account_once_it_is_imported(
    served: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billhook.mirror.verify.paid.YOUNG", -1)
    before = served.admin("POST", "/test/verify").json()["verification"]
    imported(served)
    after = served.admin("POST", "/test/verify").json()["verification"]
    compared = [
        {each["table"]: each["objects"] for each in found["tables"]} for found in (before, after)
    ]
    payments = "payments.transactions (payments)"
    assert (compared[0][payments], compared[1][payments]) == (0, 5)
    assert after["sound"]
    (money,) = after["money"]
    assert (money["payments"], money["refunds"], money["difference"]) == (3300, 200, 0)


def test_a_payment_that_was_declined_twice_is_rebuilt_as_it_was_imported(
    served: Api, account: Account
) -> None:
    card = {"payment_method": "pm_card_chargeDeclined"}
    given = {"amount": "900", "currency": "eur", "confirm": "true", **card}
    declined = account.http.post("/v1/payment_intents", data=given).json()["error"]
    path = f"/v1/payment_intents/{declined['payment_intent']['id']}/confirm"
    account.http.post("/_sandbox/advance", json={"seconds": 60}).raise_for_status()
    account.http.post(path, data=card)
    imported(served)
    rebuilt = served.admin("POST", "/test/rebuild").json()["rebuild"]
    assert [each for each in rebuilt["tables"] if each["different"]] == []


def test_a_rebuild_keeps_what_was_imported(served: Api) -> None:
    imported(served)
    rebuilt = served.admin("POST", "/test/rebuild").json()["rebuild"]
    assert [each for each in rebuilt["tables"] if each["different"]] == []


def written(api: Api) -> list[Any]:
    """Which version of each row is stored: `xmin` changes with every write."""
    return [
        api.books.rows(f"SELECT xmin::text, ctid::text FROM {table} ORDER BY 2")
        for table in ("payments.transactions", "billhook.payment_sources")
    ]


def test_a_second_import_writes_nothing(served: Api) -> None:
    imported(served)
    before = written(served)
    again = imported(served)
    assert sum(each["read"] for each in again["lists"]) > 0
    assert sum(each["written"] for each in again["lists"]) == 0
    assert written(served) == before


def test_an_import_can_begin_later_and_be_extended(served: Api, shop: Account) -> None:
    # By Stripe's clock, which other tests have advanced; `served` was connected an hour later.
    now = shop.get("/_sandbox/health")["now"] + 3600
    day = time.strftime("%Y-%m-%d", time.gmtime(now + 86400))
    found = imported(served, since=day)
    assert found["since"].startswith(day)
    assert found["completeSince"].startswith(day)
    assert transactions(served) == []
    found = imported(served)
    assert found["since"] is None
    assert found["completeSince"].startswith("2011-01-01")
    assert len(transactions(served)) == 7


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "times": 4},
        {"status": 429, "reason": "endpoint-rate", "times": 2},
        {"cut": True, "times": 4},
    ],
)
def test_an_import_continues_after_stripe_failed(
    served: Api, shop: Account, fault: dict[str, Any]
) -> None:
    served.books.execute(
        "CREATE OR REPLACE FUNCTION billhook.backoff(failures integer) RETURNS interval"
        " LANGUAGE sql AS $$ SELECT interval '0' $$"
    )
    shop.fault(path_prefix="/v1/refunds", **fault)
    served.admin("POST", "/test/import")
    deadline = time.monotonic() + 60
    while served.admin("GET", "/test/import").json()["status"] != "finished":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(transactions(served)) == 7


def test_an_error_of_one_list_does_not_stop_the_others(served: Api, shop: Account) -> None:
    shop.fault(path_prefix="/v1/checkout/sessions", status=403, times=1000)
    served.admin("POST", "/test/import")
    deadline = time.monotonic() + 60
    while not (found := served.admin("GET", "/test/import").json())["error"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found["status"] in ("waiting", "running")
    assert found["error"].startswith("checkout_sessions: ")
    assert found["completeSince"] is None
    done = {each["name"]: each["done"] for each in found["lists"]}
    assert not done.pop("checkout_sessions")
    assert all(done.values())
    assert len(transactions(served)) == 7


def test_a_row_that_the_app_rejects_is_skipped_and_named(served: Api) -> None:
    served.books.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'no partial captures'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON payments.transactions
        FOR EACH ROW WHEN (NEW.amount = 600) EXECUTE FUNCTION refuse();
        """
    )
    answer = served.admin("POST", "/test/import")
    assert answer.status_code == 202
    deadline = time.monotonic() + 60
    while (found := served.admin("GET", "/test/import").json())["status"] != "finished":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert found["skipped"] == 1
    assert "no partial captures" in found["error"]
    assert len(transactions(served)) == 6


def test_no_trigger_on_the_ledger_fires_for_what_is_imported(served: Api) -> None:
    served.books.execute(
        """
        CREATE TABLE fired (id text);
        CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO fired VALUES (NEW.provider_event_id); RETURN NULL; END $$;
        CREATE TRIGGER fire AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION fire();
        """
    )
    imported(served)
    assert len(transactions(served)) == 7
    assert served.books.rows("SELECT * FROM fired") == []


def test_a_new_account_is_imported_after_its_sync_without_a_request(
    database_url: str, sandbox: str, shop: Account
) -> None:
    with serving(database_url, sandbox, recovery=True, pull_seconds=86400) as api:
        answer = api.admin("PUT", "/test/config", {"secretKey": shop.key})
        assert answer.status_code == 200, answer.text
        deadline = time.monotonic() + 60
        while api.admin("GET", "/test/mirror").json()["mirror"]["history"] != "finished":
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert len(transactions(api)) == 7


def test_the_setting_turns_that_off(database_url: str, sandbox: str, shop: Account) -> None:
    with serving(
        database_url, sandbox, recovery=True, pull_seconds=86400, import_history=False
    ) as api:
        api.admin("PUT", "/test/config", {"secretKey": shop.key})
        # Other work of the worker is done by then.
        deadline = time.monotonic() + 60
        while not api.books.rows("SELECT FROM billhook.pulls WHERE pulled_at IS NOT NULL"):
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert api.admin("GET", "/test/import").json()["status"] == "none"
        assert api.admin("GET", "/test/mirror").json()["mirror"]["history"] == "none"


def test_another_account_ends_the_import_and_has_its_own(served: Api, sandbox: str) -> None:
    imported(served)
    other = Account(sandbox)
    other.post(
        "/v1/payment_intents",
        amount="700",
        currency="usd",
        confirm="true",
        payment_method="pm_card_visa",
    )
    answer = served.admin("PUT", "/test/config", {"secretKey": other.key})
    assert answer.status_code == 200, answer.text
    assert served.admin("GET", "/test/import").json()["status"] == "none"
    imported(served)
    assert transactions(served) == [("one_time_payment", "succeeded", 700, 0)]
    other.http.close()


def test_a_deleted_customer_gets_no_mapping_from_an_old_checkout(
    served: Api, shop: Account
) -> None:
    price = shop.post(
        "/v1/prices",
        currency="eur",
        unit_amount="500",
        **{"product_data[name]": "Tea"},
    )
    customer = shop.post("/v1/customers", name="Gone")["id"]
    session = shop.post(
        "/v1/checkout/sessions",
        mode="payment",
        customer=customer,
        success_url="https://a.test",
        **{"line_items[0][price]": price["id"], "line_items[0][quantity]": "1"},
        **{"metadata[insforge_subject_type]": "user", "metadata[insforge_subject_id]": "u1"},
    )
    shop.http.post("/_sandbox/pay", json={"session": session["id"]}).raise_for_status()
    shop.http.delete(f"/v1/customers/{customer}").raise_for_status()
    imported(served)
    served.admin("POST", "/test/sync")  # which also refreshes
    mapped = served.books.rows("SELECT subject_id FROM payments.customer_mappings")
    assert [row["subject_id"] for row in mapped] == ["t1"]  # the subscriber's
    (row,) = served.books.rows(
        "SELECT subject_id FROM payments.transactions WHERE amount = 500 AND type <> 'refund'"
    )
    assert row["subject_id"] == "u1"


def test_only_an_administrator_may_import(served: Api) -> None:
    path = "/api/payments/stripe/test/import"
    for bearer, status in ((None, 401), (token(USER), 403), (ANONYMOUS_KEY, 401)):
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        assert served.http.get(path, headers=headers).status_code == status
        assert served.http.post(path, headers=headers).status_code == status


@pytest.mark.parametrize("body", [{"since": "yesterday"}, {"since": None}, {"from": "2024-01-01"}])
def test_bad_orders_are_refused(served: Api, body: dict[str, Any]) -> None:
    answer = served.admin("POST", "/test/import", body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")


def test_without_a_key_there_is_nothing_to_import(database_url: str, sandbox: str) -> None:
    with serving(database_url, sandbox) as api:
        answer = api.admin("POST", "/test/import")
        assert (answer.status_code, answer.json()["error"]) == (400, "PAYMENT_CONFIG_INVALID")
        assert api.admin("GET", "/test/import").json()["status"] == "none"


def test_the_command_and_the_client_import_and_show_the_progress(
    served: Api, monkeypatch: pytest.MonkeyPatch, billhook: Billhook
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", served.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    with Client(served.url, ADMIN_KEY) as client:
        assert client.import_progress("test").status == "none"
        assert billhook("import", "--progress").out.startswith("test: none")
        done = billhook("import", "--json")
        assert (done.code, done.json["status"]) == (0, "finished")
        shown = billhook("import", "--progress").out
        assert "complete since 2011-01-01" in shown
        assert "charges" in shown
        assert "since 2011-01-01" in billhook("status").out
        begun = client.start_import("test", since=datetime(2030, 1, 1, tzinfo=UTC))
        assert begun.since == datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def command(served: Api, monkeypatch: pytest.MonkeyPatch, billhook: Billhook) -> Billhook:
    monkeypatch.setenv("BILLHOOK_URL", served.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    return billhook


def test_the_command_fails_while_stripe_rejects_a_list(
    served: Api, shop: Account, command: Billhook
) -> None:
    shop.fault(path_prefix="/v1/refunds", status=403, times=1)
    ran = command("import")
    assert ran.code == 1
    assert "test: waiting" in ran.out
    assert "refunds: " in ran.out
    assert "It continues at 20" in ran.out
    # Again, at once: the error of before is not the result of this time.
    ran = command("import", "--json")
    assert (ran.code, ran.json["status"], ran.json["error"]) == (0, "finished", None)
    assert ran.json["retryAt"] is None


def test_the_command_fails_if_the_app_rejected_payments(served: Api, command: Billhook) -> None:
    served.books.execute(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION E'no partial\\x1b[31m captures'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON payments.transactions
        FOR EACH ROW WHEN (NEW.amount = 600) EXECUTE FUNCTION refuse();
        """
    )
    ran = command("import")
    assert ran.code == 1
    assert "test: finished" in ran.out
    assert "1 facts were rejected by a rule of the app" in ran.out
    assert "no partial [31m captures" in ran.out  # nothing that a terminal obeys
    ran = command("import", "--json")
    assert (ran.code, ran.json["skipped"]) == (1, 1)


def test_an_import_continues_although_the_last_object_of_a_page_was_deleted(
    served: Api, shop: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stripe does not list what comes after a deleted object: such as the draft of an invoice."""
    customer = shop.post("/v1/customers", name="Ada")["id"]
    paid = shop.post("/v1/invoices", customer=customer)["id"]
    shop.post("/v1/invoiceitems", customer=customer, invoice=paid, amount="400", currency="eur")
    shop.post(f"/v1/invoices/{paid}/finalize")
    shop.post(f"/v1/invoices/{paid}/pay", paid_out_of_band="true")
    draft = shop.post("/v1/invoices", customer=customer)["id"]
    monkeypatch.setattr(list_pages, "_PAGE", 1)
    real, deleted = reading.write_page, []

    async def write(reader: Any, part: Any, *given: Any) -> None:
        await real(reader, part, *given)
        if part.after == draft and not deleted:
            deleted.append(draft)
            shop.http.delete(f"/v1/invoices/{draft}").raise_for_status()

    listed = reading.list_page

    async def page(*given: Any, after: str | None) -> Any:
        # The sandbox still lists them.
        return await listed(*given, after="in_gone" if after in deleted else after)

    monkeypatch.setattr(reading, "write_page", write)
    monkeypatch.setattr(reading, "list_page", page)
    imported(served)
    assert deleted
    rows = served.books.rows("SELECT object_id FROM billhook.payment_refs")
    assert paid in [row["object_id"] for row in rows]


class Killed(BaseException):
    """The process ends here."""


def test_an_import_that_is_killed_at_every_page_ends_with_the_same_rows(
    served: Api, shop: Account, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_pages, "_PAGE", 2)
    real, pages = reading.write_page, 0

    async def write(*given: Any) -> None:
        nonlocal pages
        pages += 1
        await real(*given)
        if pages % 3:
            raise Killed

    monkeypatch.setattr(reading, "write_page", write)

    async def again_and_again(database: Database) -> int:
        async def key(_environment: Environment) -> str:
            return shop.key

        gateway, runs = Gateway(key, sandbox), 0
        try:
            while (await history.progress(database, "test")).status != "finished":
                runs += 1
                with suppress(Killed):
                    await History(database, gateway).run("test")
        finally:
            await gateway.close()
        return runs

    assert served.books.run(again_and_again) > 5
    found = served.admin("GET", "/test/import").json()
    assert (found["skipped"], len(transactions(served))) == (0, 7)
    read = {each["name"]: each["read"] for each in found["lists"]}
    assert (read["charges"], read["refunds"]) == (7, 1)  # nothing was read twice
    rebuilt = served.admin("POST", "/test/rebuild").json()["rebuild"]
    assert [each for each in rebuilt["tables"] if each["different"]] == []


def test_a_row_that_is_locked_for_too_long_is_not_skipped(served: Api) -> None:
    served.books.execute(
        """
        CREATE SEQUENCE tries;
        CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') <= 2 THEN
                RAISE EXCEPTION 'could not obtain lock' USING ERRCODE = 'lock_not_available';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER busy BEFORE INSERT ON payments.transactions
        FOR EACH ROW WHEN (NEW.amount = 600) EXECUTE FUNCTION busy();
        CREATE OR REPLACE FUNCTION billhook.backoff(failures integer) RETURNS interval
        LANGUAGE sql AS $$ SELECT interval '0' $$;
        """
    )
    served.admin("POST", "/test/import")
    deadline = time.monotonic() + 60
    while (found := served.admin("GET", "/test/import").json())["status"] != "finished":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found["skipped"], len(transactions(served))) == (0, 7)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Event:
    """Imports read nothing until this is set."""
    may_read, read = Event(), history.read

    async def later(*given: Any) -> Any:
        await asyncio.to_thread(may_read.wait, 60)
        return await read(*given)

    monkeypatch.setattr(history, "read", later)
    return may_read


def while_it_waits(monkeypatch: pytest.MonkeyPatch, what: Callable[[], None]) -> None:
    """Do this when the command looks for the end of the import."""
    real = AsyncClient.import_progress

    async def looking(client: AsyncClient, environment: Any) -> Any:
        what()
        await asyncio.sleep(0)
        return await real(client, environment)

    monkeypatch.setattr(AsyncClient, "import_progress", looking)


def test_the_command_joins_an_import_that_is_running(
    served: Api, command: Billhook, held: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_it_waits(monkeypatch, held.set)
    begun = command("import", "--background", "--json")
    assert (begun.code, begun.json["status"] in ("waiting", "running")) == (0, True)
    ran = command("import", "--since", "2024-01-01", "--json")
    assert (ran.code, ran.json["status"]) == (0, "finished")
    assert ran.json["startedAt"] == begun.json["startedAt"]


def test_an_interrupted_command_says_that_the_import_continues(
    served: Api, command: Billhook, held: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    while_it_waits(monkeypatch, lambda: os.kill(os.getpid(), signal.SIGINT))
    # A shell lets what it starts in the background ignore the signal.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        ran = command("import", "--json")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (ran.code, ran.out) == (130, "")
    assert "billhook import --environment test --progress" in ran.err
    held.set()
    assert imported(served)["status"] == "finished"


def test_an_import_that_is_refused_is_an_error(
    database_url: str, sandbox: str, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(database_url, sandbox) as api:
        monkeypatch.setenv("BILLHOOK_URL", api.url)
        monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
        ran = billhook("import", "--json")
        assert (ran.code, ran.out, ran.error["error"]) == (1, "", "PAYMENT_CONFIG_INVALID")
        assert billhook("import", "--progress", "--since", "2024-01-01").code == 2


def test_with_a_lost_dispute_the_sums_are_what_stripe_holds(served: Api, shop: Account) -> None:
    shop.post(
        "/v1/payment_intents",
        amount="5000",
        currency="eur",
        confirm="true",
        payment_method="pm_card_createDispute",
    )
    shop.http.post("/_sandbox/advance", json={"seconds": 60}).raise_for_status()
    (dispute,) = shop.get("/v1/disputes")["data"]
    shop.post(f"/v1/disputes/{dispute['id']}/close")
    served.admin("POST", "/test/sync")
    imported(served)
    booked = shop.get("/v1/balance_transactions?limit=100")["data"]
    (row,) = served.books.rows(
        """
        SELECT sum(CASE WHEN type = 'refund' THEN -amount ELSE amount - amount_lost END)::int
            AS held
        FROM payments.transactions WHERE status NOT IN ('failed', 'pending')
        """
    )
    assert row["held"] == sum(each["amount"] for each in booked)
    assert -5000 in [each["amount"] for each in booked]
