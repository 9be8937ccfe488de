"""`billhook verify`: drift is found, told apart from what is in flight, and fixed."""

from __future__ import annotations

from typing import Any

import pytest

from billhook.access.secrets import SecretStore
from billhook.account.endpoint_events import EVENTS
from billhook.errors import BillhookError
from billhook.ledger import Ledger
from billhook.mirror.rebuild import rebuild
from billhook.mirror.status import mirror_status
from billhook.mirror.verify import last, verify
from billhook.mirror.verify.reading import YOUNG
from billhook.models import (
    Drift,
    MirrorStatus,
    RebuildOrder,
    RebuiltTable,
    Verification,
    Verify,
)
from billhook.postgres import Database
from billhook.recovery import Recovery
from billhook.stripe.gateway import Gateway
from odd_stripe import odd, with_odd_entries
from recovering import Station, verified
from stripe_events import event, refund


@pytest.fixture
def station(database_url: str, sandbox: str) -> Station:
    return Station(database_url, sandbox)


@pytest.fixture
def sold(station: Station, monkeypatch: pytest.MonkeyPatch) -> Station:
    """A shop whose books are right: a payment, half of it refunded, and a subscription."""
    monkeypatch.setattr("billhook.mirror.verify.objects.YOUNG", -1)
    monkeypatch.setattr("billhook.mirror.verify.paid.YOUNG", -1)
    (session,) = station.bought()
    v1 = station.stripe.v1
    intent = v1.checkout.sessions.retrieve(session).payment_intent
    assert isinstance(intent, str)
    v1.refunds.create({"payment_intent": intent, "amount": 500})
    price = v1.prices.create(
        {
            "currency": "eur",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
            "product_data": {"name": "Plan"},
        }
    )
    plan = v1.checkout.sessions.create(
        {
            "mode": "subscription",
            "success_url": "https://shop.example/done",
            "line_items": [{"price": price.id, "quantity": 1}],
        }
    )
    station.control("pay", session=plan.id)
    station.pull()
    station.refresh()
    station.sync()
    # An hour ago, or what differs could be on its way.
    for table in ("stripe_products", "stripe_prices", "customers", "stripe_subscriptions"):
        station.books.execute(
            f"UPDATE payments.{table} SET provider_event_at = provider_event_at - interval '1 hour'"
        )
    station.books.execute("UPDATE billhook.pulls SET since = since - interval '1 hour'")
    return station


def drifting(station: Station) -> int | None:
    """What status and metrics tell of the last verification."""

    async def work(database: Database) -> MirrorStatus:
        return await mirror_status(database, "test")

    found = station.books.run(work)
    assert found.verified_at is not None
    return found.drifting_objects


def only(found: Verification) -> Drift:
    (drift,) = (each for each in found.drift if each.table.startswith("payments.transactions"))
    return drift


def test_books_that_are_right_are_told_so_with_their_sums(sold: Station) -> None:
    found = verified(sold)
    assert found.drift == []
    assert found.sound
    assert all(table.complete and not table.error for table in found.tables)
    assert {t.table.split(" (")[0]: t.objects for t in found.tables}["payments.customers"] >= 1
    for money in found.money:
        assert money.difference == 0
    assert sum(each.stripe_refunds for each in found.money) == 500
    assert sum(each.payments for each in found.money) > 500


@pytest.mark.parametrize(
    ("table", "change", "fields"),
    [
        ("stripe_products", "name = 'Hacked' WHERE name = 'Plan'", ["name"]),
        ("stripe_prices", "unit_amount = 1 WHERE unit_amount = 900", ["unit_amount"]),
        ("customers", "email = 'x@y.z'", ["email"]),
        ("stripe_subscriptions", "status = 'canceled'", ["status"]),
        ("stripe_subscription_items", "quantity = 7", ["items"]),
    ],
)
def test_a_row_changed_by_other_hands_is_found_and_mended(
    sold: Station, table: str, change: str, fields: list[str]
) -> None:
    sold.books.execute(f"UPDATE payments.{table} SET {change}")
    drift = verified(sold).drift
    assert drift
    assert {each.problem for each in drift} == {"different"}
    assert all(each.fields == fields and each.since and each.repaired is None for each in drift)
    repaired = verified(sold, repair=True)
    assert [each.repaired for each in repaired.drift] == [True] * len(drift)
    assert repaired.sound
    assert verified(sold).drift == []


def test_a_row_that_is_missing_and_one_too_many_are_found_and_mended(sold: Station) -> None:
    sold.books.execute("DELETE FROM payments.stripe_products WHERE name = 'Plan'")
    sold.books.execute(
        "INSERT INTO payments.stripe_products (environment, product_id, name, active) "
        "VALUES ('test', 'prod_nobody', 'Ghost', true)"
    )
    found = verified(sold)
    assert {(each.problem, each.object_id == "prod_nobody") for each in found.drift} == {
        ("missing", False),
        ("extra", True),
    }
    assert drifting(sold) == 2
    assert verified(sold, repair=True).sound
    assert drifting(sold) == 0
    assert verified(sold).drift == []


def test_a_row_whose_repair_the_app_refuses_leaves_the_others_repaired(sold: Station) -> None:
    sold.books.execute("""
        UPDATE payments.stripe_prices SET unit_amount = 1;
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'we do not like it'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE ON payments.stripe_prices FOR EACH ROW
        WHEN (NEW.recurring_interval IS NULL) EXECUTE FUNCTION refuse()""")
    repaired = verified(sold, repair=True)
    assert sorted(bool(each.repaired) for each in repaired.drift) == [False, True]
    assert not repaired.sound


def test_a_payment_that_was_missed_is_fulfilled_by_the_repair(sold: Station) -> None:
    before = sold.fulfilled()
    sold.bought()  # nobody tells us of it
    found = verified(sold)
    drift = only(found)
    assert (drift.problem, drift.table) == ("missing", "payments.transactions (payments)")
    assert drift.amount is not None
    money = next(each for each in found.money if each.currency == drift.currency)
    assert money.difference == -drift.amount
    repaired = verified(sold, repair=True)
    assert only(repaired).repaired
    assert sold.fulfilled() == before + 1
    again = verified(sold)
    assert (again.drift, [each.difference for each in again.money if each.difference]) == ([], [])


def test_a_subscription_payment_that_was_missed_is_fulfilled_by_the_repair(sold: Station) -> None:
    subscription = sold.stripe.v1.subscriptions.list().data[0].id
    sold.books.execute("""
        CREATE TABLE renewals (event_id text);
        CREATE FUNCTION renew() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO renewals VALUES (NEW.provider_event_id); RETURN NULL; END $$;
        CREATE TRIGGER renew AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW WHEN (NEW.processing_status = 'processed'
            AND NEW.event_type = 'invoice.paid') EXECUTE FUNCTION renew()""")
    sold.control("renew", subscription=subscription)  # nobody tells us of it
    sold.control("settle")
    drift = only(verified(sold, repair=True))
    assert (drift.problem, drift.repaired) == ("missing", True)
    row = sold.books.row(
        "SELECT type, amount, related_object_ids ->> 'subscription' AS subscription "
        "FROM payments.transactions WHERE provider_object_id = $1",
        drift.object_id,
    )
    assert tuple(row.values()) == ("subscription_invoice", 900, subscription)
    assert len(sold.books.rows("SELECT FROM renewals")) == 1


def test_a_payment_that_other_hands_removed_is_mended_to_the_last_column(sold: Station) -> None:
    def payments() -> list[dict[str, Any]]:
        kept = (
            "pg_catalog.to_jsonb(t) - ARRAY['id', 'created_at', 'updated_at', 'payment_id'] AS row"
        )
        return sold.books.rows(f"SELECT {kept} FROM payments.transactions t ORDER BY 1")

    sold.control("advance", seconds=60)  # the refund's reference has arrived
    sold.pull()
    before, fulfilled = payments(), sold.fulfilled()
    for harm in (
        "DELETE FROM payments.transactions",
        "UPDATE payments.transactions SET raw = '{}'",
    ):
        sold.books.execute(harm)
        assert not verified(sold).sound
        assert verified(sold, repair=True).sound
        assert payments() == before
    assert sold.fulfilled() == fulfilled
    kinds = sold.books.rows("SELECT DISTINCT event_type AS type FROM payments.webhook_events")
    assert {each["type"] for each in kinds} <= set(EVENTS)


def test_entries_of_stripes_lists_that_are_no_objects_hold_up_no_repair(sold: Station) -> None:
    before = sold.fulfilled()
    sold.bought()
    with odd(sold.sandbox, with_odd_entries) as address:
        sold.sandbox = address
        repaired_now = verified(sold, repair=True)
    assert [table.error for table in repaired_now.tables if table.error] == []
    assert only(repaired_now).repaired
    assert sold.fulfilled() == before + 1


def test_a_refund_that_was_missed_is_found_with_its_money(sold: Station) -> None:
    refund = sold.books.row("SELECT * FROM payments.transactions WHERE type = 'refund'")
    sold.books.execute("DELETE FROM payments.transactions WHERE type = 'refund'")
    found = verified(sold)
    drift = only(found)
    assert (drift.object_id, drift.amount) == (refund["provider_object_id"], 500)
    assert next(m for m in found.money if m.currency == drift.currency).difference == 500
    assert only(verified(sold, repair=True)).repaired


GHOST = """
INSERT INTO billhook.payment_refs VALUES ('test', 'payment_intent', '{id}', 990001);
INSERT INTO payments.transactions
    (provider, environment, type, status, amount, currency, paid_at, payment_id)
VALUES ('stripe', 'test', 'one_time_payment', 'succeeded', 700, 'usd',
    (SELECT since FROM billhook.pulls), 990001)
"""


def test_money_captured_in_parts_is_in_flight_until_its_payment_succeeds(sold: Station) -> None:
    sold.stripe.v1.payment_intents.create(
        {
            "amount": 2000,
            "capture_method": "manual",
            "currency": "eur",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "automatic_payment_methods": {"enabled": True, "allow_redirects": "never"},
        }
    )

    def captured_in_part(path: str, answer: Any) -> None:
        for each in answer.get("data", [answer]):
            if each.get("object") == "charge" and not each["captured"]:
                each |= {"captured": True, "amount_captured": 700}

    real = sold.sandbox
    with odd(real, captured_in_part) as sold.sandbox:
        found = verified(sold, repair=True)
    sold.sandbox = real
    assert found.drift == []
    assert [each.in_flight for each in found.tables if "payments)" in each.table] == [1]
    assert [each.difference for each in found.money if each.difference] == []


def test_a_payment_that_stripe_does_not_have_is_named_and_left_alone(sold: Station) -> None:
    sold.books.execute(GHOST.format(id="pi_ghost"))
    found = verified(sold, repair=True)
    drift = only(found)
    assert (drift.problem, drift.object_id, drift.amount) == ("extra", "pi_ghost", 700)
    assert not found.sound
    assert next(each for each in found.money if each.currency == "usd").difference == 700


def add_ghost_refund(sold: Station) -> None:
    sold.books.execute(f"""
        INSERT INTO payments.transactions (provider, environment, type, status, amount, currency,
            provider_object_type, provider_object_id, provider_created_at)
        VALUES ('stripe', 'test', 'refund', 'refunded', 300, 'eur', 'refund', 're_ghost',
            to_timestamp({sold.now()}))
    """)
    sold.control("advance", seconds=60)


def test_a_refund_whose_removal_the_app_refuses_stays_in_the_totals(sold: Station) -> None:
    add_ghost_refund(sold)
    sold.books.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'refunds are never deleted'; END $$;
        CREATE TRIGGER refuse BEFORE DELETE ON payments.transactions FOR EACH ROW
        EXECUTE FUNCTION refuse()""")
    found = verified(sold, repair=True)
    assert only(found).repaired is False
    assert next(each for each in found.money if each.currency == "eur").difference == -300


def test_a_refund_that_stripe_does_not_have_is_named_and_removed(sold: Station) -> None:
    add_ghost_refund(sold)
    found = verified(sold)
    drift = only(found)
    assert (drift.table, drift.problem, drift.object_id, drift.amount) == (
        "payments.transactions (refunds)",
        "extra",
        "re_ghost",
        300,
    )
    assert next(each for each in found.money if each.currency == "eur").difference == -300
    assert only(verified(sold, repair=True)).repaired
    assert sold.books.rows("SELECT FROM payments.transactions WHERE amount = 300") == []
    again = verified(sold)
    assert (again.drift, [each.difference for each in again.money if each.difference]) == ([], [])


@pytest.mark.parametrize("known_by", ["payment_intent", "charge"])
def test_payments_and_refunds_from_before_the_connection_are_not_called_extra(
    sold: Station, known_by: str
) -> None:
    """Stripe's lists begin with the connection; a charge may be days older than its payment."""
    sold.control("advance", seconds=60)
    since = f"to_timestamp({sold.now()})"
    sold.books.execute(f"""
        UPDATE billhook.pulls SET since = {since};
        UPDATE payments.transactions SET paid_at = {since} WHERE type <> 'refund';
        UPDATE payments.transactions SET provider_created_at = NULL, created_at = {since}
        WHERE type = 'refund';
        DELETE FROM billhook.payment_refs
        WHERE object_type IN ('payment_intent', 'charge') AND object_type <> '{known_by}';
    """)
    sold.control("advance", seconds=60)
    found = verified(sold)
    assert [each for each in found.drift if each.table.startswith("payments.transactions")] == []
    assert [each.difference for each in found.money if each.difference] == []


def test_a_refund_that_stripe_no_longer_has_gave_nothing_back(sold: Station) -> None:
    state = "SELECT amount_refunded, status FROM payments.transactions WHERE type <> 'refund'"
    (payment,) = sold.books.rows(f"{state} AND amount_refunded > 0")
    back = sold.books.row("""
        SELECT related_object_ids ->> 'charge' AS charge,
            related_object_ids ->> 'payment_intent' AS intent
        FROM payments.transactions WHERE type = 'refund'
    """)
    ghost = refund("re_ghost", amount=300, charge=back["charge"], payment_intent=back["intent"])
    sold.books.apply(event("refund.created", ghost | {"created": sold.now()}))
    sold.control("advance", seconds=60)
    drift = verified(sold).drift
    assert {(each.table, each.problem) for each in drift} == {
        ("payments.transactions (payments)", "different"),
        ("payments.transactions (refunds)", "extra"),
    }
    assert verified(sold, repair=True).sound
    assert sold.books.rows(f"{state} AND amount_refunded > 0") == [payment]
    again = verified(sold)
    assert (again.drift, [each.difference for each in again.money if each.difference]) == ([], [])
    (rebuilt,) = [t for t in rebuilt_of(sold) if t.table == "payments.transactions"]
    assert rebuilt.differences == []


def rebuilt_of(station: Station) -> list[RebuiltTable]:
    async def work(database: Database) -> list[RebuiltTable]:
        return (await rebuild(database, "test", RebuildOrder())).tables

    return station.books.run(work)


def test_a_young_object_is_in_flight_and_no_drift(station: Station) -> None:
    station.stripe.v1.products.create({"name": "Just made"})
    assert YOUNG >= 30
    found = verified(station)
    assert found.drift == []
    assert sum(table.in_flight for table in found.tables) == 1


def counted(station: Station, **order: Any) -> tuple[Verification, list[str]]:
    """A verification, and what it fetched from Stripe."""
    asked: list[str] = []

    async def work(database: Database) -> Verification:
        gateway = Gateway(SecretStore(database, station.settings).stripe_key, station.sandbox)
        background = gateway.background

        async def noted(environment: Any, name: str, *rest: Any, **more: Any) -> Any:
            asked.append(name)
            return await background(environment, name, *rest, **more)

        gateway.background = noted  # type: ignore[method-assign]
        try:
            return await verify(Ledger(database), gateway, "test", Verify(**order))
        finally:
            await gateway.close()

    return station.books.run(work), asked


def test_it_reads_no_more_than_a_page_for_100_objects(station: Station) -> None:
    seeded = {"customers": 1200, "products": 300, "prices": 300}
    station.control("seed", key=station.key, **seeded)
    station.sync()
    found, asked = counted(station)
    objects = sum(table.objects for table in found.tables)
    assert objects >= 1800
    # A last page per list. Stripe's time is known since the key was checked.
    assert len(asked) <= objects / 100 + 11
    assert "account" not in asked


def test_a_payment_that_stripe_did_not_take_is_fetched_once(sold: Station) -> None:
    intent = sold.stripe.v1.payment_intents.create({"amount": 700, "currency": "usd"})
    sold.books.execute(GHOST.format(id=intent.id))
    found, asked = counted(sold, repair=True)
    assert (only(found).problem, only(found).object_id) == ("extra", intent.id)
    assert asked.count("payment_intent") == 1


def test_a_sample_keeps_to_its_time_and_says_that_it_is_one(sold: Station) -> None:
    found = verified(sold, budgetSeconds=1)
    assert found.sound
    assert not any(table.complete for table in found.tables if table.table.endswith("(payments)"))


def test_the_worker_verifies_when_it_is_due_and_keeps_the_result(sold: Station) -> None:
    def run(worker: Recovery) -> Any:
        return worker.verify("test")

    sold.work(run)
    assert sold.books.run(lambda database: last(database, "test")) is None
    sold.books.execute("UPDATE billhook.pulls SET since = now() - interval '25 hours'")
    sold.work(run)
    kept = sold.books.run(lambda database: last(database, "test"))
    assert isinstance(kept, Verification)
    assert kept.sound


def test_only_one_verifies_at_a_time(sold: Station) -> None:
    sold.books.execute("""
        INSERT INTO billhook.leases VALUES
            ('verify:test', gen_random_uuid(), now() + interval '1 minute')
    """)
    with pytest.raises(BillhookError, match="already running"):
        verified(sold)
