"""Assignments of customers: which subjects those pay for that existed before Billhook."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe

from api import Api, connect, serving
from billhook.mirror import assignments
from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder
from cli import Billhook
from recovering import Station
from stripe_events import event, session, subject

PATH = "/test/customers/assignments"


@pytest.fixture
def api(database_url: str, sandbox: str) -> Iterator[Api]:
    """Billhook with a Stripe account of its own: customers of other tests have teams, too."""
    key = f"sk_test_assignments{uuid4().hex}_1"
    connect(database_url, sandbox, key)
    with serving(database_url, sandbox) as found:
        found.stripe = stripe.StripeClient(key, base_addresses={"api": sandbox})
        yield found


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


def made(station: Station, email: str | None = None, **metadata: str) -> str:
    """A customer from before Billhook, with a subscription."""
    v1 = station.stripe.v1
    given: Any = {"metadata": metadata} | ({"email": email} if email else {})
    customer = v1.customers.create(given)
    card = v1.payment_methods.attach("pm_card_visa", {"customer": customer.id})
    v1.customers.update(customer.id, {"invoice_settings": {"default_payment_method": card.id}})
    product = v1.products.create({"name": "Plan"})
    price = v1.prices.create(
        {
            "product": product.id,
            "currency": "eur",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
        }
    )
    v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    return str(customer.id)


def mapped(station: Station) -> dict[str, tuple[str, str]]:
    rows = station.books.rows("SELECT * FROM payments.customer_mappings")
    return {row["provider_customer_id"]: (row["subject_type"], row["subject_id"]) for row in rows}


def subjects_of(station: Station, table: str = "stripe_subscriptions") -> dict[str, str | None]:
    rows = station.books.rows(f"SELECT customer_id, subject_id FROM payments.{table}")
    return {row["customer_id"]: row["subject_id"] for row in rows}


def insert(station: Station, customer: str, subject_id: str, *, age: str = "0 s") -> None:
    station.books.execute(f"""
        INSERT INTO payments.customer_assignments
            (environment, customer_id, subject_type, subject_id, assigned_at)
        VALUES ('test', '{customer}', 'team', '{subject_id}', now() - interval '{age}')""")


def work(station: Station) -> None:
    station.books.execute("UPDATE payments.customer_assignments SET next_at = now()")
    station.books.run(lambda database: assignments.apply_due(database, "test"))


def test_a_row_of_the_app_maps_the_customer_and_names_its_rows(station: Station) -> None:
    customer = made(station)
    station.sync()
    assert subjects_of(station) == {customer: None}
    insert(station, customer, "t_1")
    work(station)
    assert mapped(station) == {customer: ("team", "t_1")}
    assert subjects_of(station) == {customer: "t_1"}
    assert subjects_of(station, "stripe_invoices") == {customer: "t_1"}


def test_a_row_counts_although_the_customer_is_mirrored_later(station: Station) -> None:
    customer = made(station)
    insert(station, customer, "t_1")
    work(station)
    station.sync()
    assert mapped(station) == {customer: ("team", "t_1")}
    assert subjects_of(station) == {customer: "t_1"}


def test_a_rebuild_keeps_assignments(station: Station) -> None:
    customer = made(station)
    station.sync()
    insert(station, customer, "t_1")
    work(station)
    station.books.run(lambda database: rebuild(database, "test", RebuildOrder(swap=True)))
    assert mapped(station) == {customer: ("team", "t_1")}
    assert subjects_of(station) == {customer: "t_1"}


@pytest.mark.parametrize("reverse", [False, True])
def test_the_newest_of_assignments_and_checkouts_decides(station: Station, reverse: bool) -> None:
    paid = event(
        "checkout.session.completed",
        session("cs_1", customer="cus_1", metadata=subject("team", "t_paid")),
        created=int(station.now()),
    )
    steps: list[Any] = [
        lambda: station.books.apply(paid),
        lambda: (insert(station, "cus_1", "t_old", age="1 day"), work(station)),
    ]
    for step in reversed(steps) if reverse else steps:
        step()
    assert mapped(station) == {"cus_1": ("team", "t_paid")}
    station.books.execute(
        "UPDATE billhook.customer_claims SET claimed_at = claimed_at - interval '1 hour'"
    )
    insert(station, "cus_1", "t_new")
    work(station)
    assert mapped(station) == {"cus_1": ("team", "t_new")}


def test_of_two_rows_of_one_second_the_later_one_counts(station: Station) -> None:
    insert(station, "cus_1", "t_z")
    insert(station, "cus_1", "t_a")
    station.books.execute("UPDATE payments.customer_assignments SET assigned_at = '2026-01-01'")
    work(station)
    assert mapped(station) == {"cus_1": ("team", "t_a")}


def test_a_row_that_a_trigger_rejects_does_not_stop_the_others(station: Station) -> None:
    station.books.execute("""
        CREATE FUNCTION public.no() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE EXCEPTION 'not this team'; END $$;
        CREATE TRIGGER no BEFORE INSERT ON payments.customer_mappings FOR EACH ROW
        WHEN (NEW.subject_id = 't_bad') EXECUTE FUNCTION public.no();
    """)
    for customer, team in (("cus_1", "t_1"), ("cus_2", "t_bad"), ("cus_3", "t_3")):
        insert(station, customer, team)
    work(station)
    assert mapped(station) == {"cus_1": ("team", "t_1"), "cus_3": ("team", "t_3")}
    (left,) = station.books.rows(
        "SELECT customer_id, last_error, next_at > now() AS later"
        " FROM payments.customer_assignments WHERE applied_at IS NULL"
    )
    assert left["customer_id"] == "cus_2"
    assert "not this team" in left["last_error"]
    assert left["later"]
    station.books.execute("DROP TRIGGER no ON payments.customer_mappings")
    work(station)
    assert mapped(station)["cus_2"] == ("team", "t_bad")


def test_users_cannot_assign_customers(station: Station) -> None:
    for role in ("anon", "authenticated"):
        with pytest.raises(Exception, match="permission denied"):
            station.books.execute(f"SET ROLE {role}; SELECT 1 FROM payments.customer_assignments")


def outcome(api: Api, *wanted: dict[str, Any], **more: Any) -> list[str]:
    answer = api.admin("POST", PATH, {"assignments": list(wanted), **more})
    assert answer.status_code == 200, answer.text
    return [each["outcome"] for each in answer.json()["assignments"]]


def team(name: str, **customer: str) -> dict[str, Any]:
    return {**customer, "subject": {"type": "team", "id": name}}


@pytest.fixture
def customers(api: Api) -> list[str]:
    """Three mirrored customers; two of them have one email address."""
    emails = ("Ada@shop.example", "bob@shop.example", "BOB@shop.example")
    found = [str(api.stripe.v1.customers.create({"email": each}).id) for each in emails]
    assert api.admin("POST", "/test/sync").status_code == 200
    return found


def test_the_api_assigns_by_id_and_by_email_and_reports_each(
    api: Api, customers: list[str]
) -> None:
    ada, bob, _ = customers
    wanted = [
        team("t_1", email="ada@shop.example".upper()),
        team("t_2", email="bob@shop.example"),
        team("t_3", customerId=bob),
        team("t_4", customerId="cus_nobody"),
        team("t_5", email="nobody@shop.example"),
        team("t_3", customerId=ada),
    ]
    expected = ["assigned", "ambiguous", "assigned", "unknown", "unknown", "conflict"]
    assert outcome(api, *wanted, dryRun=True) == expected
    assert api.books.rows("SELECT FROM payments.customer_mappings") == []
    assert outcome(api, *wanted) == expected
    rows = api.books.rows("SELECT * FROM payments.customer_mappings")
    assert {row["provider_customer_id"]: row["subject_id"] for row in rows} == {
        ada: "t_1",
        bob: "t_3",
    }
    expected[0] = expected[2] = "unchanged"
    assert outcome(api, *wanted) == expected
    assert len(api.books.rows("SELECT FROM payments.customer_assignments")) == 2


def test_a_mapping_is_replaced_only_on_request(api: Api, customers: list[str]) -> None:
    ada, bob, _ = customers
    assert outcome(api, team("t_1", customerId=ada)) == ["assigned"]
    for contradiction in (team("t_2", customerId=ada), team("t_1", customerId=bob)):
        assert outcome(api, contradiction) == ["conflict"]
    answer = api.admin("POST", PATH, {"assignments": [team("t_1", customerId=bob)]}).json()
    assert answer["assignments"] == [
        {
            "customerId": bob,
            "email": None,
            "subject": {"type": "team", "id": "t_1"},
            "outcome": "conflict",
            "currentSubject": None,
            "currentCustomerId": ada,
        }
    ]
    assert outcome(api, team("t_2", customerId=ada), overwrite=True) == ["assigned"]
    (row,) = api.books.rows("SELECT * FROM payments.customer_mappings")
    assert (row["provider_customer_id"], row["subject_id"]) == (ada, "t_2")


@pytest.mark.parametrize(
    "body",
    [
        {"assignments": []},
        {"assignments": [team("t_1")]},
        {"assignments": [team("t_1", customerId="cus_1", email="a@example.com")]},
        {"assignments": [{"customerId": "cus_1"}]},
        {"assignments": [team("", customerId="cus_1")]},
        {"assignments": [team("t_1", customerId="cus_1")], "force": True},
    ],
)
def test_bad_assignments_are_refused(api: Api, body: dict[str, Any]) -> None:
    answer = api.admin("POST", PATH, body)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")


def test_only_admins_assign(api: Api) -> None:
    body = {"assignments": [team("t_1", customerId="cus_1")]}
    assert httpx.post(f"{api.url}/api/payments/stripe{PATH}", json=body).status_code == 401


def test_the_command_maps_by_email_file_and_metadata(
    api: Api, customers: list[str], linked: Billhook, tmp_path: Path
) -> None:
    ada, bob, other = customers
    api.stripe.v1.customers.update(other, {"metadata": {"team": "t_9"}})
    api.admin("POST", "/test/sync")

    def written(name: str, *rows: tuple[str, ...]) -> str:
        with (tmp_path / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        return str(tmp_path / name)

    known, unknown = ("ada@shop.example", "t_1"), ("nobody@shop.example", "t_8")
    file = written("e.csv", ("email", "subject_id"), known, unknown)
    by_email = ("--by", "email", file, "--type", "team")
    ran = linked("customers", "map", *by_email, "--dry-run")
    assert ran.code == 0, ran.err
    assert "1 assigned" in ran.out
    assert "Dry run: nothing was changed." in ran.out
    assert api.books.rows("SELECT FROM payments.customer_mappings") == []
    assert linked("customers", "map", *by_email).code == 2
    assert linked("customers", "map", *by_email, "--yes").code == 0

    header = ("customer_id", "subject_type", "subject_id")
    by_file = written("f.csv", header, (bob, "team", "t_2"))
    json = linked("customers", "map", by_file, "--yes", "--json").json
    assert json["assignments"][0]["outcome"] == "assigned"
    by_metadata = ("--by", "metadata", "--key", "team", "--type", "team")
    assert linked("customers", "map", *by_metadata, "--yes").code == 0
    rows = api.books.rows("SELECT * FROM payments.customer_mappings")
    assert {row["provider_customer_id"]: row["subject_id"] for row in rows} == {
        ada: "t_1",
        bob: "t_2",
        other: "t_9",
    }


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "Pass a CSV file with the columns customer_id, subject_type, subject_id."),
        (("--by", "metadata", "--key", "team"), "--by metadata needs --key and --type"),
    ],
)
def test_the_command_says_what_it_lacks(
    linked: Billhook, arguments: tuple[str, ...], reason: str
) -> None:
    ran = linked("customers", "map", *arguments)
    assert ran.code == 2
    assert reason in ran.err


def test_the_command_names_missing_columns(linked: Billhook, tmp_path: Path) -> None:
    (tmp_path / "f.csv").write_text("customer,subject_id\n")
    ran = linked("customers", "map", str(tmp_path / "f.csv"))
    assert ran.code == 2
    assert "lacks the columns customer_id, subject_type" in ran.err
