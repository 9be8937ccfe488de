"""Kinds whose list follows from their declaration: events, sync, verify, rebuild and archives show
the same rows, and so do the API, the clients and the command line."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from pydantic.alias_generators import to_camel

from api import Api, connect
from billhook.access.secrets import SecretStore
from billhook.client import Client
from billhook.kinds import KINDS, SUMMARY
from billhook.ledger import Ledger
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.mirror.verify import verify
from billhook.models import LISTS, RebuildOrder, Rebuilt, Verification, Verify
from billhook.postgres import Database
from billhook.stripe.gateway import Gateway
from books import WIPE
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from recovering import Station
from stripe_events import (
    T0,
    customer,
    dispute,
    event,
    invoice,
    payment_method,
    session,
    subject,
)

__all__ = ["billhook"]

KINDS_LISTED = [kind for kind in KINDS.values() if kind.lists]
SYNCED = [kind for kind in KINDS_LISTED if kind.has_list]
SHOWN = {of.name: of for kind in KINDS_LISTED for of in (kind, kind.children) if of}
ALL = ", ".join(f"payments.{of.table}" for of in SHOWN.values())
INCIDENTAL = {"id", "created_at", "updated_at", "synced_at"}
VERSION = {f"provider_event_{part}" for part in ("at", "rank", "id", "previous")}


@pytest.fixture
def station(database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch) -> Station:
    """A shop in which something of each kind has happened, and its events have come."""
    monkeypatch.setattr("billhook.mirror.verify.objects.YOUNG", -1)
    monkeypatch.setattr("billhook.mirror.verify.paid.YOUNG", -1)
    station = Station(database_url, sandbox)
    disputes_happen(station)
    invoices_happen(station)
    payment_methods_happen(station)
    meters_happen(station)
    entitlements_happen(station)
    station.pull()
    station.refresh()
    return station


def invoices_happen(station: Station) -> None:
    """One of each status, and one that was deleted."""
    v1 = station.stripe.v1
    card: Any = {"default_payment_method": "pm_card_visa"}
    customer = v1.customers.create({"payment_method": "pm_card_visa", "invoice_settings": card}).id
    product: Any = {"name": "Plan"}
    price = v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
            "product_data": product,
        }
    )
    v1.subscriptions.create(
        {"customer": customer, "items": [{"price": price.id}], "metadata": subject()}
    )
    made: Any = {"customer": customer, "collection_method": "send_invoice", "days_until_due": 30}
    drafts = []
    for amount in range(5):
        drafts.append(v1.invoices.create(made).id)
        v1.invoice_items.create(
            {
                "customer": customer,
                "invoice": drafts[-1],
                "amount": 100 + amount,
                "currency": "usd",
            }
        )
    _, opened, voided, written_off, deleted = drafts
    for each in (opened, voided, written_off):
        v1.invoices.finalize_invoice(each)
    v1.invoices.void_invoice(voided)
    v1.invoices.mark_uncollectible(written_off)
    v1.invoices.delete(deleted)


def payment_methods_happen(station: Station) -> None:
    """A card that was detached, a bank account, and a card that no customer has."""
    v1 = station.stripe.v1
    ada: Any = {"customer": v1.customers.create({}).id}
    card = v1.payment_methods.attach("pm_card_mastercard", ada).id
    v1.payment_methods.detach(card)
    iban = "AT611904300234573201"
    bank = v1.payment_methods.create({"type": "sepa_debit", "sepa_debit": {"iban": iban}}).id
    v1.payment_methods.attach(bank, ada)
    v1.payment_methods.update(bank, {"metadata": {"main": "yes"}})
    v1.payment_methods.create({"type": "card", "card": {"token": "tok_visa"}})


def meters_happen(station: Station) -> None:
    """One that was renamed, and one that was deactivated."""
    for name, formula in (("calls", "sum"), ("storage", "last")):
        meter = station.stripe.v1.billing.meters.create(
            {
                "display_name": name,
                "event_name": name,
                "default_aggregation": {"formula": formula},  # type: ignore[typeddict-item]
            }
        )
        station.stripe.v1.billing.meters.update(meter.id, {"display_name": name.title()})
    station.stripe.v1.billing.meters.deactivate(meter.id)


def entitlements_happen(station: Station) -> None:
    """One customer has many features, one has none any more."""
    v1 = station.stripe.v1
    product = v1.products.create({"name": "Suite"}).id
    features = []
    for n in range(12):
        given: Any = {"lookup_key": f"feature_{n}", "name": f"Feature {n}"}
        found = v1.entitlements.features.create(given).id
        v1.products.features.create(product, {"entitlement_feature": found})
        features.append(found)
    monthly: Any = {"interval": "month"}
    price = v1.prices.create(
        {"currency": "usd", "unit_amount": 0, "recurring": monthly, "product": product}
    ).id
    for _ in range(2):
        who = v1.customers.create({}).id
        last = v1.subscriptions.create({"customer": who, "items": [{"price": price}]}).id
    station.control("advance", seconds=5)
    v1.subscriptions.cancel(last)
    v1.entitlements.features.update(found, {"active": False})
    station.control("advance", seconds=5)
    # No event reports a feature.
    station.books.execute(f"""
        INSERT INTO billhook.refreshes (environment, object_type, object_id, reason)
        SELECT 'test', 'entitlements.feature', id, 'test' FROM unnest(ARRAY{features}) AS id
    """)


def disputes_happen(station: Station) -> None:
    v1 = station.stripe.v1
    payment: Any = {"amount": 2000, "currency": "usd", "confirm": True}
    for card in ("pm_card_createDispute", "pm_card_createDisputeInquiry"):
        v1.payment_intents.create(payment | {"payment_method": card})
    (first, _) = v1.disputes.list().data
    v1.disputes.close(first.id)


def shown(station: Station, *, but: set[str] = INCIDENTAL) -> dict[str, list[dict[str, Any]]]:
    return {
        name: sorted(
            (
                {key: value for key, value in row.items() if key not in but}
                for row in station.books.rows(f"SELECT * FROM payments.{of.table}")
            ),
            key=lambda row: str(row[of.key]),
        )
        for name, of in SHOWN.items()
    }


def rebuilt(station: Station, *, swap: bool = False) -> dict[str, int]:
    async def work(database: Database) -> Rebuilt:
        return await rebuild(database, "test", RebuildOrder(swap=swap))

    return {each.table: each.different for each in station.books.run(work).tables if each.different}


def verified(station: Station, **order: Any) -> Verification:
    async def work(database: Database) -> Verification:
        secrets = SecretStore(database, station.settings)
        gateway = Gateway(secrets.stripe_key, station.sandbox)
        try:
            return await verify(Ledger(database), gateway, "test", Verify(**order))
        finally:
            await gateway.close()

    found: Verification = station.books.run(work)
    return found


def test_a_sync_shows_what_the_events_have_shown(station: Station) -> None:
    told = shown(station, but=INCIDENTAL | VERSION)
    assert all(told.values())
    station.books.execute(f"TRUNCATE {ALL}")
    station.sync()
    # Stripe has no list of all payment methods, but customers show their default one.
    told["payment_method"] = [row for row in told["payment_method"] if row["type"] == "card"]
    now = shown(station, but=INCIDENTAL | VERSION)
    # A sync asks for customers with a subscription, also for those that no event has reported,
    # because they are entitled to nothing.
    reported = {each["customer_id"] for each in told.pop(SUMMARY.name)}
    fetched = {each["customer_id"] for each in now.pop(SUMMARY.name)}
    entitled = {each["customer_id"] for each in now["entitlements.active_entitlement"]}
    assert (len(reported), len(fetched), reported & fetched) == (2, 2, entitled)
    assert now == told
    counts = station.books.row("SELECT last_sync_counts AS c FROM payments.provider_connections")
    assert {kind.plural: counts["c"][kind.plural] for kind in SYNCED} == {
        kind.plural: len(told[kind.name]) for kind in SYNCED
    }


@pytest.mark.parametrize("kind", SYNCED, ids=lambda kind: kind.name)
def test_verify_finds_and_repairs_rows_that_others_changed(station: Station, kind: Any) -> None:
    before = shown(station, but=INCIDENTAL | VERSION)
    # An hour ago, or what differs could be on its way.
    station.books.execute(
        f"UPDATE payments.{kind.table} SET provider_event_at = provider_event_at - interval '1h'"
    )
    assert verified(station).drift == []
    choice, key = kind.listed.choice, kind.key
    station.books.execute(f"""
        UPDATE payments.{kind.table} SET {choice} = 'hacked' WHERE {key} = (
            SELECT min({key}) FROM payments.{kind.table});
        INSERT INTO payments.{kind.table} SELECT other.*
        FROM payments.{kind.table} AS one, jsonb_populate_record(
            one, jsonb_build_object('id', gen_random_uuid(), '{key}', 'nobody')) AS other LIMIT 1
    """)
    found = verified(station)
    assert {(each.table, each.problem) for each in found.drift} == {
        (f"payments.{kind.table}", "different"),
        (f"payments.{kind.table}", "extra"),
    }
    assert verified(station, repair=True).sound
    assert shown(station, but=INCIDENTAL | VERSION) == before


def test_a_rebuild_brings_back_rows_that_are_gone(station: Station) -> None:
    before = shown(station)
    reported = {name: of for name, of in SHOWN.items() if not name.startswith("entitlements.")}
    station.books.execute(
        f"TRUNCATE {', '.join(f'payments.{of.table}' for of in reported.values())}"
    )
    missing = {f"payments.{of.table}": len(before[name]) for name, of in reported.items()}
    assert rebuilt(station, swap=True) == missing
    assert shown(station) == before
    assert rebuilt(station) == {}


def test_a_rebuild_keeps_what_was_fetched_and_repairs_what_follows_from_it(
    station: Station,
) -> None:
    """Features, and the entitlements that an event had no room for, are known from Stripe's answers
    alone."""
    before = shown(station)
    assert len(before["entitlements.active_entitlement"]) == 12
    station.books.execute("""
        UPDATE payments.stripe_features SET name = 'hacked';
        DELETE FROM payments.stripe_active_entitlements
        WHERE lookup_key IN ('feature_0', 'feature_11')
    """)
    assert rebuilt(station, swap=True) == {
        "payments.stripe_features": 12,
        "payments.stripe_active_entitlements": 2,
    }
    assert shown(station) == before


def test_an_archive_takes_the_rows_along_and_brings_them_back(station: Station) -> None:
    before = shown(station, but=set())
    connect(station.books.dsn, station.sandbox, station.key.replace("recovery", "other"))
    assert shown(station) == {name: [] for name in SHOWN}
    connect(station.books.dsn, station.sandbox, station.key)
    oldest = station.books.run(archives.archives)[-1]
    station.books.run(lambda database: archives.restore(database, oldest.id))
    assert shown(station, but=set()) == before


def test_a_dispute_shows_its_state_and_changes_no_payment(station: Station) -> None:
    won, inquiry = sorted(shown(station)["dispute"], key=lambda row: str(row["status"]))
    assert (won["status"], inquiry["status"]) == ("needs_response", "warning_closed")
    for row in (won, inquiry):
        raw = row["raw"]
        assert (row["amount"], row["currency"]) == (2000, "usd")
        assert (row["charge_id"], row["payment_intent_id"]) == (
            raw["charge"],
            raw["payment_intent"],
        )
        assert row["evidence_due_by"].timestamp() == raw["evidence_details"]["due_by"]
    statuses = station.books.rows("SELECT DISTINCT status FROM payments.transactions")
    assert statuses == [{"status": "succeeded"}]


def test_an_invoice_is_shown_whatever_became_of_it(station: Station) -> None:
    invoices = sorted(shown(station)["invoice"], key=lambda row: row["total"])
    rows = {row["status"]: row for row in invoices}
    assert sorted(rows) == ["draft", "open", "paid", "uncollectible", "void"]
    paid, unpaid = rows["paid"], rows["open"]
    assert paid["subscription_id"] == paid["raw"]["parent"]["subscription_details"]["subscription"]
    assert (paid["total"], paid["amount_paid"], paid["amount_remaining"]) == (900, 900, 0)
    assert (paid["subject_type"], paid["subject_id"]) == ("team", "t1")
    assert (unpaid["subscription_id"], unpaid["amount_due"]) == (None, 101)
    assert unpaid["due_date"].timestamp() == unpaid["raw"]["due_date"]
    assert unpaid["hosted_invoice_url"] == unpaid["raw"]["hosted_invoice_url"] is not None
    assert rows["draft"]["number"] is None
    # The subscription says whom its customer pays for, so the others are the team's as well.
    assert {row["subject_id"] for row in rows.values()} == {"t1"}
    gone = "SELECT count(*) AS n FROM billhook.tombstones WHERE object_type = 'invoice'"
    assert station.books.row(gone) == {"n": 1}


def test_a_meter_shows_how_usage_is_aggregated(station: Station) -> None:
    calls, storage = sorted(shown(station)["billing.meter"], key=lambda row: str(row["event_name"]))
    assert (calls["display_name"], calls["formula"], calls["status"]) == ("Calls", "sum", "active")
    assert (storage["formula"], storage["status"]) == ("last", "inactive")
    assert (calls["customer_key"], calls["value_key"]) == ("stripe_customer_id", "value")


def test_payment_methods_that_were_detached_are_gone(station: Station) -> None:
    rows = {row["type"]: row for row in shown(station)["payment_method"]}
    assert sorted(rows) == ["card", "sepa_debit"]
    card, bank = rows["card"], rows["sepa_debit"]
    assert (card["brand"], card["last4"]) == ("visa", "4242")
    assert (card["exp_month"], card["exp_year"]) == (12, 2034)
    assert (bank["brand"], bank["last4"], bank["exp_year"]) == (None, "3201", None)
    assert bank["metadata"] == {"main": "yes"}
    assert bank["customer_id"] == bank["raw"]["customer"]


def test_an_update_before_a_customer_has_it_does_not_hide_a_payment_method(api: Api) -> None:
    api.books.apply(
        event("payment_method.updated", payment_method(customer=None)),
        event("payment_method.attached", payment_method()),
    )
    assert listed(api, "payment-methods") == ["pm_1"]
    assert listed(api, "payment-methods?customer=cus_1&type=card") == ["pm_1"]
    assert listed(api, "payment-methods?type=sepa_debit") == []


def test_created_finalized_and_paid_in_one_second_asks_stripe_nothing(api: Api) -> None:
    events = [
        event("invoice.created", invoice(status="draft")),
        event("invoice.finalized", invoice(status="open")),
        event("invoice.paid", invoice(amount_paid=0)),
        event("invoice.payment_succeeded", invoice(amount_paid=0)),
    ]
    for order in itertools.permutations(events):
        api.books.execute(WIPE)
        api.books.apply(*order)
        assert api.books.row("SELECT status FROM payments.stripe_invoices") == {"status": "paid"}
        assert api.books.rows("SELECT * FROM billhook.refreshes") == []


def test_a_draft_that_was_deleted_stays_away(api: Api) -> None:
    draft = invoice(status="draft")
    api.books.apply(
        event("invoice.created", draft, at=0),
        event("invoice.deleted", draft, at=5),
        event("invoice.updated", draft, at=5, previous={"number": "A-1"}),
        event("invoice.updated", draft, at=4, previous={"number": "A-2"}),
    )
    assert api.books.rows("SELECT * FROM payments.stripe_invoices") == []


def test_an_invoice_of_an_old_api_version_names_its_subscription_at_the_top(api: Api) -> None:
    old = invoice(parent=None, subscription="sub_7", payment_intent="pi_7", charge="ch_7")
    del old["status"]
    api.books.apply(event("invoice.paid", old | {"paid": True}))
    row = api.books.row("SELECT subscription_id, status FROM payments.stripe_invoices")
    assert row == {"subscription_id": "sub_7", "status": "paid"}
    payment = api.books.row("SELECT provider_object_id AS id FROM payments.transactions")
    assert payment == {"id": "pi_7"}


def test_invoices_have_the_subject_that_their_customer_pays_for(api: Api) -> None:
    """A draft itself says nothing about who pays for whom."""
    named = invoice("in_2", status="draft", parent=None, metadata=subject(name="t2"))
    api.books.apply(
        event("customer.created", customer()),
        event("invoice.created", invoice(status="draft", parent=None), at=10),
        event("invoice.created", named, at=11),
    )
    assert api.books.rows("SELECT * FROM payments.customer_mappings") == []
    api.books.apply(event("checkout.session.completed", session(metadata=subject()), at=5))
    rows = api.books.rows("SELECT invoice_id, subject_id FROM payments.stripe_invoices ORDER BY 1")
    assert rows == [
        {"invoice_id": "in_1", "subject_id": "t1"},
        {"invoice_id": "in_2", "subject_id": "t2"},
    ]
    assert listed(api, "invoices?subjectType=team&subjectId=t1") == ["in_1"]
    assert sorted(listed(api, "invoices?customer=cus_1&status=draft")) == ["in_1", "in_2"]
    assert listed(api, "invoices?subscription=sub_1") == []
    assert api.admin("GET", "/test/invoices?subjectType=team").status_code == 400


def listed(api: Api, path: str) -> list[str]:
    answer = api.admin("GET", f"/test/{path}")
    assert answer.status_code == 200, answer.text
    ((_, rows),) = answer.json().items()
    (key,) = (of.of.key for of in LISTS.values() if of.route == path.partition("?")[0])
    return [row[to_camel(key)] for row in rows]


def test_disputes_are_listed_newest_first_by_what_they_are_filtered_by(
    api: Api, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = itertools.cycle(("needs_response", "lost"))
    api.books.apply(
        *(
            event(
                "charge.dispute.created",
                dispute(
                    f"dp_{n}",
                    created=T0 + n,
                    charge=f"ch_{n % 3}",
                    payment_intent=f"pi_{n}",
                    status=next(states),
                ),
                at=n,
            )
            for n in range(6)
        )
    )
    every = [f"dp_{n}" for n in range(5, -1, -1)]
    assert listed(api, "disputes") == every
    assert listed(api, "disputes?status=lost") == ["dp_5", "dp_3", "dp_1"]
    assert listed(api, "disputes?charge=ch_1") == ["dp_4", "dp_1"]
    assert listed(api, "disputes?charge=ch_1&status=lost") == ["dp_1"]
    assert listed(api, "disputes?paymentIntent=pi_2") == ["dp_2"]
    assert listed(api, "disputes?since=2026-05-28T20:26:42Z&until=2026-05-28T20:26:44Z") == [
        "dp_3",
        "dp_2",
    ]
    assert listed(api, "disputes?charge=none") == []
    for wrong in ("status=open", "customer=cus_1", "limit=101"):
        assert api.admin("GET", f"/test/disputes?{wrong}").status_code == 400

    with Client(api.url, ADMIN_KEY) as client:
        found = list(client.mirrored("disputes").all("test", status="lost"))
        assert [each.dispute_id for each in found] == ["dp_5", "dp_3", "dp_1"]
        assert (found[0].amount, found[0].evidence_due_by.timestamp()) == (1500, T0 + 1_000_000)
        page = client.mirrored("disputes").page("test", limit=2)
        assert page.next_cursor is not None
        rest = client.mirrored("disputes").page("test", starting_after=page.next_cursor)
        assert [each.dispute_id for each in (*page.items, *rest.items)] == every
        with pytest.raises(ValueError, match="not a list: 'products'"):
            client.mirrored("products")

    monkeypatch.setenv("BILLHOOK_URL", api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    table = billhook("disputes", "list", "--payment-intent", "pi_2").out.splitlines()
    assert table[0].split()[:4] == ["dispute", "status", "amount", "reason"]
    assert table[1].split()[:4] == ["dp_2", "needs_response", "15.00", "EUR"]
    as_json = billhook("disputes", "list", "--limit", "1", "--json").json
    assert as_json == api.admin("GET", "/test/disputes?limit=1").json()
    assert billhook("disputes", "list", "--status", "won").out == ("No disputes match.\n")


def test_users_read_only_what_policies_can_be_written_for(station: Station) -> None:
    own = {"stripe_subscriptions", "stripe_invoices", "stripe_payment_methods"}
    for kind in KINDS.values():
        for table in kind.tables:
            rights = station.books.row(
                f"""SELECT has_table_privilege('anon', 'payments.{table}', 'SELECT') AS anon,
                    has_table_privilege('authenticated', 'payments.{table}', 'SELECT') AS users,
                    has_table_privilege('project_admin', 'payments.{table}', 'SELECT') AS admin,
                    has_table_privilege('project_admin', 'payments.{table}', 'UPDATE') AS writes"""
            )
            users = table in own
            assert rights == {"anon": False, "users": users, "admin": True, "writes": False}
