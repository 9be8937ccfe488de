"""Fetched objects in the form of events, and what is kept of them."""

from __future__ import annotations

from typing import Any

import pytest

from billhook.projections import Event
from billhook.projections.fetched import (
    changes_of_fetched,
    kept,
    of_charge,
    of_invoice,
    of_session,
    of_uncharged_intent,
)
from stripe_events import charge, invoice, invoice_payment, payment_intent, refund, session, subject


def types(events: Any) -> list[str]:
    return [each.type for each in events]


METADATA = subject("user", "u1") | {"insforge_checkout_mode": "payment", "order": "7"}


@pytest.mark.parametrize(
    ("type", "stripe_object"),
    [
        ("payment_intent.succeeded", payment_intent(metadata=METADATA, description="Tea")),
        ("payment_intent.payment_failed", payment_intent(metadata=METADATA, amount_received=0)),
        ("payment_intent.canceled", payment_intent(canceled_at=7)),
        ("charge.succeeded", charge(payment_intent=None, metadata=METADATA)),
        ("charge.refunded", charge(amount_refunded=500)),
        ("refund.updated", refund(reason="duplicate")),
        ("checkout.session.completed", session(metadata=METADATA)),
        ("invoice.paid", invoice()),
        ("invoice.payment_failed", invoice(status="open", amount_paid=0)),
        ("invoice_payment.paid", invoice_payment()),
    ],
)
def test_what_is_kept_says_the_same_as_the_whole(type: str, stripe_object: dict[str, Any]) -> None:
    whole = stripe_object | {"something": {"large": "x" * 5000}}
    part = kept(whole)
    assert "something" not in part
    expected = changes_of_fetched(Event("", type, 1000, whole))
    assert expected.payment is not None
    assert changes_of_fetched(Event("", type, 1000, part)) == expected
    assert kept(part) == part


def test_a_charge_reports_its_own_failure_and_the_end_of_its_payment_intent() -> None:
    paid = payment_intent(status="succeeded", latest_charge="ch_2", created=10)
    failed = charge("ch_1", status="failed", payment_intent=paid, created=20)
    (event,) = of_charge(failed, 99)
    assert (event.type, event.created) == ("payment_intent.payment_failed", 20)
    assert event.object["latest_charge"] == "ch_1"
    last = charge("ch_2", status="succeeded", payment_intent=paid, created=30, amount_refunded=0)
    (event,) = of_charge(last, 99)
    assert (event.type, event.created) == ("payment_intent.succeeded", 30)


def test_a_released_authorization_is_canceled_and_refunded_nothing() -> None:
    gone = payment_intent(status="canceled", latest_charge="ch_1", canceled_at=40)
    released = {"captured": False, "amount_captured": 0, "refunded": True, "status": "succeeded"}
    held = charge("ch_1", payment_intent=gone, created=30, amount=900, amount_refunded=900)
    assert types(of_charge(held | released, 99)) == ["payment_intent.canceled", "charge.refunded"]


def test_a_payment_that_failed_before_it_was_charged_is_known_from_its_intent() -> None:
    tried = payment_intent(latest_charge=None, status="requires_payment_method", created=10)
    assert types(of_uncharged_intent(tried, 99)) == []
    tried["last_payment_error"] = {"code": "payment_intent_authentication_failure"}
    assert types(of_uncharged_intent(tried, 99)) == ["payment_intent.payment_failed"]
    tried["latest_charge"] = "ch_1"  # then its charges tell
    assert types(of_uncharged_intent(tried, 99)) == []


def test_a_checkout_is_dated_by_what_it_created() -> None:
    paid = session(status="complete", created=10, payment_intent={"id": "pi_1", "created": 50})
    (event,) = of_session(paid, 99)
    assert (event.type, event.created) == ("checkout.session.completed", 50)
    assert event.object["payment_intent"] == "pi_1"
    failing = {"id": "pi_1", "created": 50, "status": "requires_payment_method"}
    unpaid = paid | {"payment_status": "unpaid", "payment_intent": failing}
    assert types(of_session(unpaid, 99)) == ["checkout.session.async_payment_failed"]
    assert types(of_session(paid | {"status": "open"}, 99)) == []


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"status": "paid", "attempt_count": 1}, ["invoice.paid"]),
        ({"status": "paid", "attempt_count": 2}, ["invoice.payment_failed", "invoice.paid"]),
        ({"status": "open", "attempted": True, "attempt_count": 1}, ["invoice.payment_failed"]),
        ({"status": "open", "attempted": False, "attempt_count": 0}, []),
        ({"status": "draft"}, []),
    ],
)
def test_an_invoice_tells_whether_it_was_paid_and_failed(
    state: dict[str, Any], expected: list[str]
) -> None:
    assert types(of_invoice(invoice(created=5) | state, 99)) == expected


def test_the_claim_of_an_imported_checkout_does_not_replace_that_of_its_event() -> None:
    event = Event("", "checkout.session.completed", 1, session(metadata=METADATA))
    claim = changes_of_fetched(event).claim
    assert claim is not None
    assert claim.ref.startswith("import:cs_")
