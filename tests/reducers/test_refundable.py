"""What is left of a payment, by whatever its objects report."""

from __future__ import annotations

from typing import Any

from billhook.projections import project
from billhook.projections.changes import Event
from billhook.reducers.payments import Payment, Payments
from billhook.reducers.refundable import refundables
from stripe_events import charge, event, payment_intent, refund


def payment(*events: dict[str, Any]) -> Payment:
    payments = Payments()
    payments.spare_ids = list(range(100, 0, -1))
    for number, each in enumerate(events, start=1):
        of = Event(each["id"], each["type"], each["created"], each["data"]["object"])
        change = project(of).payment
        assert change is not None
        list(payments.record(of, change, number))
    (found,) = payments.by_id.values()
    return found


PAID = event("payment_intent.succeeded", payment_intent())


def left(*events: dict[str, Any]) -> tuple[int, int, int]:
    (part,) = refundables(payment(*events))
    return part.refunded, part.pending, part.left


def test_refunds_count_by_their_status() -> None:
    assert left(PAID) == (0, 0, 1500)
    created = event("refund.created", refund(amount=400), at=2)
    pending = event("refund.created", refund("re_2", amount=300, status="pending"), at=2)
    asked = event("refund.created", refund("re_3", amount=100, status="requires_action"), at=2)
    failed = event("refund.failed", refund("re_4", amount=200, status="failed"), at=2)
    canceled = event("refund.updated", refund("re_5", amount=50, status="canceled"), at=2)
    assert left(PAID, created, pending, asked, failed, canceled) == (400, 400, 700)


def test_what_only_the_charge_reports_counts_once() -> None:
    total = event("charge.refunded", charge(amount_refunded=900), at=3)
    assert left(PAID, total) == (900, 0, 600)
    known = event("refund.created", refund(amount=400), at=2)
    assert left(PAID, known, total) == (900, 0, 600)
    # The total at Stripe includes refunds that are pending.
    pending = event("refund.created", refund("re_2", amount=500, status="pending"), at=2)
    assert left(PAID, known, pending, total) == (400, 500, 600)


def test_more_than_everything_is_never_left() -> None:
    total = event("charge.refunded", charge(amount_refunded=2000), at=3)
    assert left(PAID, total) == (2000, 0, 0)


def test_a_partial_capture_is_what_was_taken() -> None:
    captured = event("payment_intent.succeeded", payment_intent(amount_received=1000))
    # The rest was released, which Stripe calls refunded.
    released = charge(amount_refunded=700, amount_captured=1000)
    assert left(captured, event("charge.refunded", released, at=3)) == (200, 0, 800)


def test_each_of_several_payment_intents_of_an_invoice_has_its_own_rest() -> None:
    found = payment(
        event("payment_intent.succeeded", payment_intent("pi_1", invoice="in_1")),
        event(
            "payment_intent.succeeded",
            payment_intent("pi_2", latest_charge="ch_2", amount_received=700, invoice="in_1"),
        ),
        event("refund.created", refund("re_1", amount=100), at=2),
        event("refund.created", refund("re_2", amount=650, payment_intent=None, charge="ch_2")),
        event("charge.refunded", charge("ch_2", payment_intent="pi_2", amount_refunded=650)),
    )
    assert [(p.object_id, p.refunded, p.left) for p in refundables(found)] == [
        ("pi_1", 100, 1400),
        ("pi_2", 650, 50),
    ]


def test_a_charge_without_a_payment_intent_is_refunded_by_itself() -> None:
    legacy = charge(payment_intent=None, status="succeeded", created=1, amount_captured=1500)
    back = refund(payment_intent=None, amount=600)
    (part,) = refundables(
        payment(event("charge.succeeded", legacy), event("refund.created", back, at=2))
    )
    assert (part.object_type, part.object_id, part.left) == ("charge", "ch_1", 900)


def test_what_was_not_paid_has_nothing_to_refund() -> None:
    failed = payment_intent(amount_received=0)
    assert refundables(payment(event("payment_intent.payment_failed", failed))) == []


def test_a_bank_debit_of_billhooks_is_pending_and_others_are_not_payments_yet() -> None:
    processing = event("payment_intent.processing", payment_intent(amount_received=0))
    (source,) = payment(processing).sources.values()
    assert (source.facts.outcome, source.facts.amount, source.facts.happened_at) == (
        "pending",
        1500,
        None,
    )
    other = payment_intent(metadata={})
    of = Event("evt_1", "payment_intent.processing", 1, other)
    assert project(of).payment is None
