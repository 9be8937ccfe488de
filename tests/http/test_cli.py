"""`billhook` against a running server: what people and programs get."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from api import STRIPE_KEY, Api, serving
from cli import Billhook
from http_tokens import ADMIN_KEY
from stripe_events import T0, customer, event, invoice, payment_intent, subscription

PRODUCT = {"id": "prod_1", "object": "product", "name": "Tea", "active": True, "metadata": {}}


def test_status_is_a_column_for_each_environment_and_the_apis_json(
    linked: Billhook, api: Api
) -> None:
    table = linked("status")
    assert table.code == 0
    assert table.out.splitlines()[0].split() == ["test", "live"]
    assert "connected" in table.out
    assert "unconfigured" in table.out
    assert "sk_test_****ests" in table.out
    assert linked("status", "--json").json == api.admin("GET", "/status").json()
    only = linked("status", "--environment", "live", "--json").json
    assert [each["environment"] for each in only["connections"]] == ["live"]


def test_products_and_prices_from_create_to_delete(linked: Billhook) -> None:
    made = linked("products", "create", "--name", "Tea", "--metadata", "shelf=3", "--json").json
    name = made["product"]["productId"]
    assert made["product"]["metadata"] == {"shelf": "3"}
    priced = linked(
        *("prices", "create", "--product", name, "--currency", "JPY", "--unit-amount", "3600"),
        *("--interval", "month", "--interval-count", "3", "--lookup-key", f"tea-{name}", "--json"),
    ).json
    price = priced["price"]["priceId"]
    assert priced["price"]["recurringIntervalCount"] == 3

    shown = linked("products", "get", name).out
    assert "3,600 JPY" in shown
    assert "every 3 months" in shown
    assert "shelf 3" in shown
    assert price in linked("catalog").out
    assert [
        p["priceId"] for p in linked("prices", "list", "--product", name, "--json").json["prices"]
    ]
    assert "3,600 JPY" in linked("prices", "get", price).out

    changed = linked("products", "update", name, "--description", "Green", "--inactive", "--json")
    assert (changed.json["product"]["description"], changed.json["product"]["active"]) == (
        "Green",
        False,
    )
    cleared = linked("products", "update", name, "--description", "", "--json").json["product"]
    assert (cleared["description"], cleared["active"]) == (None, False)
    assert (
        linked("prices", "update", price, "--lookup-key", "", "--json").json["price"]["lookupKey"]
        is None
    )
    assert "archived" in linked("prices", "archive", price, "--yes").out
    assert linked("prices", "get", price, "--json").json["price"]["active"] is False

    bare = linked("products", "create", "--name", "Mug", "--json").json["product"]["productId"]
    assert linked("products", "delete", bare, "--yes", "--json").json == {
        "productId": bare,
        "deleted": True,
    }
    gone = linked("products", "get", bare)
    assert (gone.code, gone.out) == (1, "")
    assert bare in gone.err


def test_a_failure_is_told_on_standard_error_and_for_programs_as_the_apis_error(
    linked: Billhook,
) -> None:
    people = linked("products", "get", "prod_none")
    assert (people.code, people.out) == (1, "")
    assert people.err.startswith("billhook: ")
    program = linked("products", "get", "prod_none", "--json")
    assert (program.code, program.out) == (1, "")
    assert (program.error["error"], program.error["statusCode"]) == (
        "PAYMENT_PRODUCT_NOT_FOUND",
        404,
    )


@pytest.mark.parametrize(
    "command",
    [
        ("config", "remove"),
        ("products", "delete", "prod_1"),
        ("prices", "archive", "price_1"),
        ("events", "replay", "evt_1", "--refire"),
        ("archive", "restore", "3fa85f64-5717-4562-b3fc-2c963f66afa6"),
    ],
)
def test_what_destroys_does_nothing_where_nobody_can_be_asked(
    linked: Billhook, api: Api, command: tuple[str, ...]
) -> None:
    before = api.admin("GET", "/config").json()
    refused = linked(*command)
    assert (refused.code, refused.out) == (2, "")
    assert "--yes" in refused.err
    assert api.admin("GET", "/config").json() == before


def test_lists_go_on_where_they_ended(linked: Billhook, api: Api) -> None:
    for number in range(5):
        assert api.deliver(event("customer.created", customer(f"cus_{number}"))).is_success
    first = linked("customers", "--limit", "2", "--json")
    assert [c["providerCustomerId"] for c in first.json["customers"]] == ["cus_0", "cus_1"]
    assert "More entries" in first.err
    cursor = first.err.split()[-1]
    rest = linked("customers", "--limit", "3", "--starting-after", cursor, "--json")
    assert [c["providerCustomerId"] for c in rest.json["customers"]] == ["cus_2", "cus_3", "cus_4"]
    assert rest.err == ""
    assert len(linked("customers", "--all", "--json").json["customers"]) == 5
    assert "cus_3@example.com" in linked("customers", "--email", "cus_3@example.com").out
    assert "No customers match" in linked("customers", "--customer", "cus_9").out


def test_a_list_longer_than_a_page_is_fetched_page_by_page(linked: Billhook, api: Api) -> None:
    api.books.execute(
        "INSERT INTO payments.customers (provider, environment, provider_customer_id, deleted) "
        "SELECT 'stripe', 'test', 'cus_' || lpad(n::text, 4, '0'), false "
        "FROM generate_series(1, 250) n"
    )
    names = [
        c["providerCustomerId"] for c in linked("customers", "--all", "--json").json["customers"]
    ]
    assert names == [f"cus_{n:04d}" for n in range(1, 251)]
    some = linked("customers", "--limit", "150", "--json")
    assert [c["providerCustomerId"] for c in some.json["customers"]] == names[:150]
    assert "More entries" in some.err


def test_transactions_show_money_in_its_currency(linked: Billhook, api: Api) -> None:
    for name, currency, amount in (("a", "usd", 150000), ("b", "jpy", 3600), ("c", "kwd", 12345)):
        intent = payment_intent(f"pi_{name}", currency=currency, amount=amount)
        intent |= {"amount_received": amount, "latest_charge": f"ch_{name}"}
        assert api.deliver(event("payment_intent.succeeded", intent)).is_success
    shown = linked("transactions").out
    for text in ("1,500.00 USD", "3,600 JPY", "12.345 KWD"):
        assert text in shown
    assert len(linked("transactions", "--status", "succeeded", "--json").json["transactions"]) == 3
    assert linked("transactions", "--since", "2100-01-01", "--json").json == {"transactions": []}
    assert linked("transactions", "--subject", "team:t1", "--json").json == {"transactions": []}
    assert "No subscriptions" in linked("subscriptions", "--status", "active").out


def test_transactions_show_what_was_paid_outside_stripe_and_what_was_canceled(
    linked: Billhook, api: Api
) -> None:
    released = payment_intent("pi_held", amount_received=0) | {"canceled_at": T0 + 60}
    assert api.deliver(event("payment_intent.canceled", released, at=60)).is_success
    assert "outside Stripe" not in linked("transactions").out
    assert api.deliver(event("invoice.paid", invoice(paid_out_of_band=True), at=9)).is_success
    header, invoiced, held = linked("transactions").out.strip().splitlines()
    assert "outside Stripe" in header
    assert "29.00 USD" in invoiced
    assert "2026-05-28 20:27" in held[header.index("canceled") :]


@pytest.mark.parametrize(
    "command",
    [
        ("transactions", "--subject", "team"),
        ("transactions", "--status", "great"),
        ("transactions", "--since", "yesterday"),
        ("products", "create", "--name", "Tea", "--metadata", "shelf"),
        ("products", "update", "prod_1"),
        ("prices", "update", "price_1"),
        ("events", "replay"),
        ("events", "replay", "evt_1", "--failed"),
        ("events", "replay", "evt_1", "--type", "invoice.paid"),
        ("status", "--environment", "staging"),
        ("status", "--loud"),
    ],
)
def test_what_was_typed_wrong_is_exit_code_2_and_asks_no_server(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    ran = billhook(*command)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err


@pytest.mark.parametrize("amount", ["15.00", "15.0", " 15", "1_500", "1,500", "+15", "-15", "1e3"])
def test_an_amount_that_is_not_plain_digits_makes_no_price(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch, amount: str
) -> None:
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    monkeypatch.setenv("COLUMNS", "200")
    ran = billhook(
        *("prices", "create", "--product", "prod_1", "--currency", "usd"),
        *("--unit-amount", amount, "--url", "http://127.0.0.1:9"),
    )
    assert (ran.code, ran.out) == (2, "")
    assert "1500 is 15.00 USD" in ran.err


@pytest.mark.parametrize("what", ["customers", "subscriptions", "transactions"])
def test_an_empty_list_is_like_nothing_only_where_a_filter_was_given(
    linked: Billhook, what: str
) -> None:
    assert linked(what, "-e", "live").out == f"No {what} yet.\n"
    assert f"No {what} match" in linked(what, "-e", "live", "--customer", "cus_9").out


@pytest.mark.parametrize(
    "command",
    [
        ("products", "get", "prod_none"),
        ("prices", "get", "price_none"),
        ("products", "update", "prod_none", "--name", "Tea"),
        ("prices", "archive", "price_none", "--yes"),
    ],
)
def test_what_is_not_there_is_asked_for_in_the_other_environment(
    linked: Billhook, command: tuple[str, ...]
) -> None:
    assert "Does it belong to the " in linked(*command).err


def test_subscriptions_show_whole_price_ids_however_narrow_the_terminal(
    linked: Billhook, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("billhook.cli.output.sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "95")
    found = subscription("sub_1MowQVLkdIwHu7ixeRlqHVzs")
    found["items"]["data"][0]["price"]["id"] = "price_1MoBy5LkdIwHu7ixZhnattbh"
    assert api.deliver(event("customer.subscription.created", found)).is_success
    assert "price_1MoBy5LkdIwHu7ixZhnattbh" in linked("subscriptions").out


def test_events_are_listed_shown_and_replayed(linked: Billhook, api: Api) -> None:
    api.books.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'no room on the shelf'; END $$;"
        "CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON payments.webhook_events FOR EACH ROW "
        "WHEN (NEW.processing_status = 'processed' AND NEW.event_type = 'product.created') "
        "EXECUTE FUNCTION refuse()"
    )
    api.deliver(event("product.created", PRODUCT, id="evt_shelf"))
    api.deliver(event("customer.created", customer(), id="evt_fine"))
    failed = linked("events", "list", "--status", "failed")
    assert "evt_shelf" in failed.out
    assert "no room on the shelf" in failed.out
    assert "evt_fine" not in failed.out
    shown = linked("events", "show", "evt_shelf")
    assert '"type": "product.created"' in shown.out
    payload = linked("events", "show", "evt_shelf", "--json").json["webhookEvent"]["payload"]
    assert payload["data"]["object"]["id"] == "prod_1"

    again = linked("events", "replay", "--failed")
    assert again.code == 1
    assert "0 replayed, 1 failed again" in again.out
    one = linked("events", "replay", "evt_shelf", "--json")
    assert (one.code, one.out) == (1, "")
    assert "no room on the shelf" in one.error["message"]

    api.books.execute("DROP TRIGGER refuse ON payments.webhook_events")
    assert linked("events", "replay", "--failed", "--json").json == {"replayed": 1, "failed": []}
    assert "No events match" in linked("events", "list", "--status", "failed").out
    refired = linked("events", "replay", "evt_fine", "--refire", "--yes", "--json").json
    assert refired["webhookEvent"]["processingStatus"] == "processed"


def test_sync_says_what_it_read_and_fails_where_there_is_no_key(linked: Billhook, api: Api) -> None:
    api.stripe.v1.products.create({"name": "Tea"})
    done = linked("sync", "--json")
    assert done.code == 0
    (result,) = done.json["results"]
    assert result["connection"]["lastSyncStatus"] == "succeeded"
    counts = result["connection"]["lastSyncCounts"]
    assert f"products {counts['products']}" in linked("sync").out
    unset = linked("sync", "--environment", "live")
    assert unset.code == 1
    assert "STRIPE_LIVE_SECRET_KEY is not configured" in unset.out
    assert "billhook config set --environment live" in unset.out


def test_a_key_is_read_from_standard_input_and_shown_masked(
    database_url: str, sandbox: str, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(database_url, sandbox, public_url="http://127.0.0.1:9") as api:
        monkeypatch.setenv("BILLHOOK_URL", api.url)
        monkeypatch.setenv("ACCESS_API_KEY", ADMIN_KEY)
        key = "sk_test_cliClicliclicli9876"
        done = billhook("config", "set", stdin=f"{key}\n")
        assert done.code == 0
        assert "sk_test_****9876" in done.out
        assert key not in done.out + done.err
        endpoint = billhook("webhooks", "status", "--json").json["connection"]
        assert endpoint["webhookEndpointUrl"] == "http://127.0.0.1:9/api/webhooks/stripe/test"
        assert endpoint["webhookEndpointId"] in billhook("webhooks", "status").out
        again = billhook("webhooks", "configure", "--json").json["connection"]
        assert again["webhookEndpointId"] == endpoint["webhookEndpointId"]
        removed = billhook("config", "remove", "--yes", "--json")
        assert removed.json["keys"][0] == {"environment": "test", "value": None}
        assert billhook("config", "show").out.splitlines()[1].split() == ["test", "-"]
        assert "webhooks configure" in billhook("webhooks", "status").out


def test_a_key_of_another_account_must_be_confirmed_and_says_where_the_rows_of_the_one_before_are(
    linked: Billhook, api: Api
) -> None:
    before = linked("status", "--json").json["connections"][0]["accountId"]
    same = linked("config", "set", stdin=f"{STRIPE_KEY}\n")
    assert (same.code, same.err) == (0, "")
    kept = linked("config", "set", stdin="sk_test_anotherAccount_1\n")
    assert kept.code == 2
    assert before in kept.err
    assert "pass --yes to confirm" in kept.err
    assert linked("status", "--json").json["connections"][0]["accountId"] == before
    assert linked("config", "show", "--json").json["keys"][0]["value"] == "sk_test_****ests"
    done = linked("config", "set", "--yes", "--json", stdin="sk_test_anotherAccount_1\n")
    after = linked("status", "--json").json["connections"][0]["accountId"]
    assert done.code == 0
    assert set(done.json) == {"keys"}
    assert before in done.err
    assert after in done.err
    assert "billhook archive list" in done.err


@pytest.mark.parametrize("command", [("config", "set"), ("link", "--url", "http://127.0.0.1:9")])
def test_a_key_on_the_command_line_is_refused_and_not_repeated(
    linked: Billhook, command: tuple[str, ...]
) -> None:
    key = "sk_test_typedTypedTyped"
    for given in ("", "sk_test_from_stdin\n"):
        ran = linked(*command, key, stdin=given)
        assert ran.code == 2
        assert key not in ran.out + ran.err
        assert "standard input" in ran.err or "shell's history" in ran.err


@pytest.mark.parametrize("key", ["sk_live_otherModeOtherMode", "pk_test_publishable12345", "hello"])
def test_a_key_that_is_refused_is_not_repeated(linked: Billhook, key: str) -> None:
    for more in ([], ["--json"]):
        ran = linked("config", "set", *more, stdin=f"{key}\n")
        assert (ran.code, ran.out) == (1, "")
        assert key not in ran.err
        assert "PAYMENT_CONFIG_INVALID" in ran.err or not more


def test_no_key_at_all_is_said(linked: Billhook) -> None:
    ran = linked("config", "set", stdin="")
    assert ran.code == 2
    assert "it was empty" in ran.err


def test_other_peoples_text_does_not_steer_the_terminal(linked: Billhook, api: Api) -> None:
    wild = customer("cus_1", name="\x1b[2J[bold]Eve[/bold]\r\nroot# ", email="a@b.test")
    assert api.deliver(event("customer.created", wild)).is_success
    out = linked("customers").out
    assert "\x1b" not in out
    assert "[bold]Eve[/bold]" in out
    assert len(out.splitlines()) == 2


def test_a_server_that_is_not_there_is_one_sentence(
    billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    ran = billhook("status", "--url", "http://127.0.0.1:9")
    assert ran.code == 1
    assert "http://127.0.0.1:9 could not be reached" in ran.err
    assert "Traceback" not in ran.err


class TestLink:
    def test_a_link_is_closed_to_others_and_enough_for_all_commands(
        self, api: Api, billhook: Billhook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        done = billhook("link", "--url", f"{api.url}/", stdin=f"{ADMIN_KEY}\n")
        assert done.code == 0
        assert ADMIN_KEY not in done.out + done.err
        stored = tmp_path / ".billhook" / "link.json"
        assert stored.stat().st_mode & 0o777 == 0o600
        assert (tmp_path / ".billhook" / ".gitignore").read_text() == "*\n"
        below = tmp_path / "a" / "b"
        below.mkdir(parents=True)
        monkeypatch.chdir(below)
        assert billhook("status", "--json").code == 0
        assert "Removed" in billhook("link", "--remove").out
        assert billhook("status").code == 2
        assert "No link found" in billhook("link", "--remove").out

    def test_a_key_that_the_server_does_not_take_is_not_remembered(
        self, api: Api, billhook: Billhook, tmp_path: Path
    ) -> None:
        ran = billhook("link", "--url", api.url, stdin="ik_wrongwrongwrongwrong\n")
        assert ran.code == 1
        assert not (tmp_path / ".billhook").exists()

    def test_the_linked_key_goes_to_no_other_address(self, api: Api, billhook: Billhook) -> None:
        billhook("link", "--url", api.url, stdin=f"{ADMIN_KEY}\n")
        elsewhere = billhook("status", "--url", "http://127.0.0.1:9")
        assert elsewhere.code == 2
        assert "There is no admin key for http://127.0.0.1:9" in elsewhere.err
        assert billhook("status", "--url", f"{api.url}/").code == 0

    def test_a_link_that_others_could_have_laid_is_refused(
        self, api: Api, billhook: Billhook, tmp_path: Path
    ) -> None:
        billhook("link", "--url", api.url, stdin=f"{ADMIN_KEY}\n")
        stored = tmp_path / ".billhook" / "link.json"
        stored.chmod(0o644)
        ran = billhook("status")
        assert ran.code == 2
        assert f"chmod 600 {stored}" in ran.err
        stored.chmod(0o600)
        stored.write_text("{")
        assert billhook("status").code == 2

    def test_nothing_known_is_said_with_what_to_do(self, billhook: Billhook) -> None:
        ran = billhook("status")
        assert ran.code == 2
        assert "billhook link --url" in ran.err
        assert billhook("status", "--json").error["error"] == "SETTINGS_INVALID"
        assert billhook("link").code == 2
        bad = billhook("link", "--url", "pay.example", stdin="ik_x\n")
        assert bad.code == 2
        assert "must look like" in bad.err


def test_the_shell_completes_commands_and_values() -> None:
    def completed(words: str) -> list[str]:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("billhook"))],
            env={
                **os.environ,
                "_BILLHOOK_COMPLETE": "complete_bash",
                "COMP_WORDS": words,
                "COMP_CWORD": str(len(words.split(" ")) - 1),
            },
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.split()

    assert completed("billhook pr") == ["products", "prices"]
    assert completed("billhook sync --environment l") == ["live"]


def test_every_command_shows_an_example() -> None:
    from typer.main import get_command

    from billhook.cli import app

    def leaves(command: object, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], object]]:
        children = getattr(command, "commands", None)
        if children is None:
            return [(path, command)]
        return [leaf for name, each in children.items() for leaf in leaves(each, (*path, name))]

    without = [
        " ".join(path)
        for path, command in leaves(get_command(app), ())
        if "Example" not in (getattr(command, "epilog", None) or "")
    ]
    assert without == []
