"""`billhook verify` on an account that several shops share, whatever becomes of a payment."""

from __future__ import annotations

from typing import Any

import pytest
from stripe import StripeClient
from test_verify import only, verified

from books import Books
from odd_stripe import odd
from recovering import Station
from stripe_events import charge, event, invoice, refund, session


@pytest.fixture
def station(database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch) -> Station:
    monkeypatch.setattr("billhook.mirror.verify.objects.YOUNG", -1)
    monkeypatch.setattr("billhook.mirror.verify.paid.YOUNG", -1)
    found = Station(database_url, sandbox)
    found.sync()
    found.books.execute("UPDATE billhook.pulls SET since = since - interval '1 hour'")
    return found


def taken(stripe: StripeClient, amount: int = 5000, **more: Any) -> Any:
    """A payment that another shop of the account took."""
    return stripe.v1.payment_intents.create(
        {
            "amount": amount,
            "currency": "usd",
            "payment_method": "pm_card_visa",
            "confirm": True,
            "metadata": {"order_id": "77"},
            **more,
        }
    )


def rows(books: Books) -> list[tuple[Any, ...]]:
    found = books.rows("""
        SELECT status, amount, amount_refunded FROM payments.transactions
        WHERE type <> 'refund' ORDER BY amount, status
    """)
    return [tuple(each.values()) for each in found]


def assert_sound(station: Station) -> None:
    found = verified(station)
    assert found.drift == []
    assert [each.difference for each in found.money if each.difference] == []


def test_what_other_shops_took_agrees_with_stripe_and_what_was_missed_is_repaired(
    station: Station,
) -> None:
    intent = taken(station.stripe)
    station.stripe.v1.refunds.create({"payment_intent": intent.id, "amount": 1200})
    drift = verified(station).drift
    assert {(each.table, each.problem) for each in drift} == {
        ("payments.transactions (payments)", "missing"),
        ("payments.transactions (refunds)", "missing"),
    }
    assert verified(station, repair=True).sound
    assert rows(station.books) == [("partially_refunded", 5000, 1200)]
    assert_sound(station)
    taken(station.stripe, 700)
    station.pull()
    assert_sound(station)


def test_released_and_partly_captured_authorizations_agree_with_stripe(station: Station) -> None:
    held = {"capture_method": "manual"}
    v1 = station.stripe.v1
    released, part = (taken(station.stripe, amount, **held) for amount in (2000, 20675))
    waiting = taken(station.stripe, 300, **held)
    v1.payment_intents.cancel(released.id)
    v1.payment_intents.capture(part.id, {"amount_to_capture": 20300})
    v1.refunds.create({"payment_intent": part.id, "amount": 1000})
    station.pull()
    expected = [("failed", 2000, 0), ("partially_refunded", 20300, 1000)]
    assert rows(station.books) == expected
    assert_sound(station)
    station.books.execute("DELETE FROM payments.transactions")
    assert not verified(station).sound
    assert verified(station, repair=True).sound
    assert rows(station.books) == expected
    v1.payment_intents.capture(waiting.id)
    station.pull()
    assert_sound(station)


@pytest.mark.parametrize(
    ("harm", "fields"),
    [
        ("amount_refunded = 0, status = 'succeeded'", ["amount_refunded"]),
        ("amount_refunded = 5000, status = 'refunded'", ["amount_refunded"]),
        ("status = 'refunded'", ["status"]),
        ("status = 'pending'", ["status"]),
    ],
)
def test_a_refund_state_that_other_hands_changed_is_found_and_repaired(
    station: Station, harm: str, fields: list[str]
) -> None:
    intent = taken(station.stripe)
    station.stripe.v1.refunds.create({"payment_intent": intent.id, "amount": 1200})
    station.pull()
    station.books.execute(f"UPDATE payments.transactions SET {harm} WHERE type <> 'refund'")
    drift = only(verified(station))
    assert (drift.object_id, drift.problem, drift.fields) == (intent.id, "different", fields)
    assert only(verified(station, repair=True)).repaired
    assert rows(station.books) == [("partially_refunded", 5000, 1200)]
    assert_sound(station)


def test_refunds_that_failed_may_add_up_to_more_than_a_bigint(station: Station) -> None:
    intent = taken(station.stripe)
    station.pull()
    failed = {"payment_intent": intent.id, "charge": intent.latest_charge, "status": "failed"}
    for name in ("re_1", "re_2"):
        back = refund(name, amount=2**63 - 1, currency="usd", **failed)
        station.books.apply(event("refund.failed", back))
    found = verified(station)
    assert [table.error for table in found.tables] == [None] * len(found.tables)
    assert found.drift == []


def test_refunds_whose_events_are_no_longer_listed_are_repaired_with_their_payment(
    station: Station,
) -> None:
    intent = taken(station.stripe)
    station.pull()
    station.stripe.v1.refunds.create({"payment_intent": intent.id, "amount": 1200})
    station.control("advance", seconds=3600)  # far from the payment's own events
    assert verified(station, repair=True).sound
    assert rows(station.books) == [("partially_refunded", 5000, 1200)]
    assert_sound(station)


def test_a_payment_that_stripe_knows_as_canceled_is_repaired(station: Station) -> None:
    intent = taken(station.stripe, 2000, capture_method="manual")
    station.stripe.v1.payment_intents.cancel(intent.id)
    station.pull()
    station.books.execute("""
        UPDATE payments.transactions SET status = 'succeeded', canceled_at = NULL, paid_at = now()
    """)
    assert not verified(station).sound
    assert verified(station, repair=True).sound
    assert rows(station.books) == [("failed", 2000, 0)]
    assert_sound(station)


def test_an_invoice_paid_by_two_payment_intents_agrees_with_both_charges(
    station: Station,
) -> None:
    first, second = taken(station.stripe, 4000), taken(station.stripe, 6000)
    station.stripe.v1.refunds.create({"payment_intent": second.id, "amount": 500})
    station.pull()
    together = [
        event(
            "invoice_payment.paid",
            {
                "id": f"inpay_{intent.id}",
                "object": "invoice_payment",
                "invoice": "in_1",
                "amount_paid": intent.amount,
                "currency": "usd",
                "payment": {"type": "payment_intent", "payment_intent": intent.id},
                "status": "paid",
            },
        )
        for intent in (first, second)
    ]
    station.books.apply(*together, event("invoice.paid", invoice(amount_paid=10000)))
    # Stripe knows the payments, but not this invoice of theirs.
    station.books.execute("DELETE FROM payments.stripe_invoices")
    assert rows(station.books) == [("partially_refunded", 10000, 500)]
    assert_sound(station)
    station.books.execute("UPDATE payments.transactions SET amount = 4000 WHERE type <> 'refund'")
    assert verified(station, repair=True).sound
    assert_sound(station)


def test_a_payment_in_the_buyers_currency_agrees_with_its_charge(station: Station) -> None:
    intent = taken(station.stripe, 1645)
    sold = session(
        payment_intent=intent.id,
        amount_total=1500,
        presentment_details={"presentment_amount": 1645, "presentment_currency": "usd"},
    )
    station.pull()
    station.books.apply(event("checkout.session.completed", sold))
    assert station.books.row("SELECT amount, currency FROM payments.transactions") == {
        "amount": 1500,
        "currency": "eur",
    }
    assert_sound(station)
    station.stripe.v1.refunds.create({"payment_intent": intent.id})
    station.pull()
    (row,) = rows(station.books)
    assert row == ("refunded", 1500, 1500)
    assert verified(station).drift == []


def test_a_subject_whose_customer_is_gone_is_named_and_repaired(station: Station) -> None:
    gone = station.stripe.v1.customers.create({"name": "Ada"})
    kept = station.stripe.v1.customers.create({"name": "Eve"})
    station.stripe.v1.customers.delete(gone.id)
    for number, customer in enumerate((gone.id, "cus_never_there", kept.id)):
        metadata = {"insforge_subject_type": "team", "insforge_subject_id": f"t{number}"}
        paid = session(f"cs_{number}", customer=customer, payment_intent=None, metadata=metadata)
        station.books.apply(event("checkout.session.completed", paid))
    station.books.execute("DELETE FROM payments.transactions")
    station.books.execute("DELETE FROM payments.customers")

    def dead() -> list[str]:
        drift = verified(station).drift
        mapped = [each for each in drift if each.table == "payments.customer_mappings"]
        assert {each.problem for each in mapped} <= {"extra"}
        return sorted(each.object_id for each in mapped)

    assert dead() == sorted([gone.id, "cus_never_there"])
    verified(station, repair=True)
    assert dead() == []
    left = station.books.rows("SELECT provider_customer_id AS id FROM payments.customer_mappings")
    assert left == [{"id": kept.id}]


def test_a_sync_notices_a_subject_whose_customer_was_never_there(station: Station) -> None:
    metadata = {"insforge_subject_type": "team", "insforge_subject_id": "t1"}
    paid = session(customer="cus_never_there", payment_intent=None, metadata=metadata)
    station.books.apply(event("checkout.session.completed", paid))
    station.sync()
    assert station.books.rows("SELECT FROM payments.customer_mappings") == []


def test_a_release_that_stripe_lists_as_a_refund_gave_nothing_back(books_of_release: Books) -> None:
    back, payment = books_of_release.rows(
        "SELECT status FROM payments.transactions ORDER BY type = 'refund' DESC"
    )
    assert (payment["status"], back["status"]) == ("failed", "failed")


@pytest.fixture
def books_of_release(database_url: str) -> Books:
    books = Books(database_url)
    canceled = {
        "id": "pi_1",
        "object": "payment_intent",
        "amount": 2000,
        "currency": "eur",
        "latest_charge": "ch_1",
        "status": "canceled",
        "canceled_at": 1_780_000_000,
    }
    books.apply(
        event("refund.created", refund(amount=2000)), event("payment_intent.canceled", canceled)
    )
    return books


def without_intents(path: str, answer: Any) -> None:
    """A Stripe whose payments are charges of the Charges API, without PaymentIntents."""
    listed = answer.get("data", [answer])
    if path == "/v1/events":
        listed[:] = [each for each in listed if not each["type"].startswith("payment_intent.")]
        listed = [each["data"]["object"] for each in listed]
    for each in listed:
        if each.get("object") in ("charge", "refund"):
            each["payment_intent"] = None


def test_payments_of_the_charges_api_count(station: Station) -> None:
    later = {"capture_method": "manual"}
    intent = taken(station.stripe)
    held, _ = taken(station.stripe, 700, **later), taken(station.stripe, 900, **later)
    station.stripe.v1.payment_intents.capture(held.id, {"amount_to_capture": 600})
    station.stripe.v1.refunds.create({"payment_intent": intent.id, "amount": 1200})
    with odd(station.sandbox, without_intents) as station.sandbox:
        station.pull()
        assert rows(station.books) == [("succeeded", 600, 0), ("partially_refunded", 5000, 1200)]
        assert_sound(station)


def test_a_missed_payment_of_the_charges_api_is_found_and_repaired(station: Station) -> None:
    intent = taken(station.stripe)
    station.control("advance", seconds=31 * 86_400)  # its events are no longer listed
    with odd(station.sandbox, without_intents) as station.sandbox:
        drift = only(verified(station))
        assert (drift.object_id, drift.problem) == (intent.latest_charge, "missing")
        assert only(verified(station, repair=True)).repaired
        assert rows(station.books) == [("succeeded", 5000, 0)]
        assert_sound(station)


def test_a_payment_of_the_charges_api_that_stripe_does_not_have_is_found(station: Station) -> None:
    made = charge("ch_gone", payment_intent=None, created=station.now() - 60)
    station.books.apply(event("charge.succeeded", made))
    drift = only(verified(station))
    assert (drift.object_id, drift.problem) == ("ch_gone", "extra")


def test_rows_that_stripe_does_not_have_are_all_counted_even_if_not_all_are_fetched(
    station: Station, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("extra", "objects"):
        monkeypatch.setattr(f"billhook.mirror.verify.{part}.CONFIRMED", 1)
    for number in range(3):
        at = station.now() - 60
        paid = charge(f"ch_gone_{number}", payment_intent=None, created=at)
        back = refund(f"re_gone_{number}", charge=paid["id"], payment_intent=None, created=at)
        station.books.apply(
            event("charge.succeeded", paid),
            event("refund.created", back),
            event("customer.created", {"id": f"cus_gone_{number}", "object": "customer"}),
        )
    found = verified(station)
    counted = {t.table: (len(t.drift), t.unconfirmed) for t in found.tables if t.drift}
    assert counted == {
        "payments.customers": (1, 2),
        "payments.transactions (payments)": (1, 2),
        "payments.transactions (refunds)": (1, 2),
    }


def lost(station: Station) -> str:
    """A payment of 50 dollars, lost to a dispute."""
    intent = taken(station.stripe, payment_method="pm_card_createDispute")
    (dispute,) = station.stripe.v1.disputes.list({"payment_intent": intent.id}).data
    station.stripe.v1.disputes.close(dispute.id)
    return str(intent.id)


def lost_sums(station: Station) -> list[tuple[int, int, int]]:
    return [(m.stripe_lost, m.lost, m.difference) for m in verified(station).money]


def test_lost_disputes_are_part_of_the_totals(station: Station) -> None:
    lost(station)
    station.pull()
    assert_sound(station)
    assert lost_sums(station) == [(5000, 5000, 0)]


@pytest.mark.parametrize(
    ("harm", "fields", "sums"),
    [
        ("amount_lost = 0", ["amount_lost"], (5000, 0, 5000)),
        ("amount_disputed = 7", ["amount_disputed"], (5000, 5000, 0)),
        (
            "amount_lost = 0, amount_disputed = 0, dispute_status = 'won'",
            ["amount_disputed", "amount_lost", "dispute_status"],
            (5000, 0, 5000),
        ),
    ],
)
def test_a_disputed_amount_that_other_hands_changed_is_found_and_repaired(
    station: Station, harm: str, fields: list[str], sums: tuple[int, int, int]
) -> None:
    intent = lost(station)
    station.pull()
    station.books.execute(f"UPDATE payments.transactions SET {harm}")
    drift = only(verified(station))
    assert (drift.object_id, drift.problem, drift.fields) == (intent, "different", fields)
    assert lost_sums(station) == [sums]
    assert only(verified(station, repair=True)).repaired
    assert_sound(station)


def test_a_dispute_that_was_missed_is_found_and_repaired_with_its_money(station: Station) -> None:
    intent = taken(station.stripe, payment_method="pm_card_createDispute")
    station.pull()
    # An hour ago, or what differs could be on its way.
    station.books.execute(
        "UPDATE payments.stripe_disputes SET provider_event_at = provider_event_at - interval '1 h'"
    )
    (dispute,) = station.stripe.v1.disputes.list({"payment_intent": intent.id}).data
    station.stripe.v1.disputes.close(dispute.id)
    assert {each.table for each in verified(station).drift} == {
        "payments.stripe_disputes",
        "payments.transactions (disputes)",
    }
    assert verified(station, repair=True).sound
    assert_sound(station)
    assert lost_sums(station) == [(5000, 5000, 0)]


def test_a_loss_that_stripe_does_not_have_is_found_and_repaired(station: Station) -> None:
    intent = taken(station.stripe)
    station.pull()
    station.books.execute("UPDATE payments.transactions SET amount_lost = 900")
    drift = only(verified(station))
    assert (drift.object_id, drift.fields) == (intent.id, ["amount_disputed", "amount_lost"])
    assert lost_sums(station) == [(0, 900, -900)]
    assert only(verified(station, repair=True)).repaired
    assert_sound(station)
