"""checkout.session.* → the session's row, the customer's mapping, and the payment."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from billhook.kinds.reading import (
    StripeObject,
    compact,
    hash_of,
    id_of,
    integer,
    listed,
    presentment_of,
    subject_of,
    text,
    timestamp,
)
from billhook.projections.changes import (
    NOTHING,
    Changes,
    CheckoutSessionChange,
    ClaimChange,
    Event,
    Outcome,
    PaymentChange,
    PaymentSource,
    Place,
)

_PAYMENT_STATUSES = ("paid", "unpaid", "no_payment_required")


def session_completed(event: Event) -> Changes:
    """Paid immediately, free, or pending: with an asynchronous payment method (stripe-facts 7) or
    not yet captured."""
    done = event.object.get("payment_status") in ("paid", "no_payment_required")
    return _finished(event, "succeeded" if done else "pending")


def session_async_payment_succeeded(event: Event) -> Changes:
    return _finished(event, "succeeded")


def session_async_payment_failed(event: Event) -> Changes:
    return _finished(event, "failed")


def session_expired(event: Event) -> Changes:
    if id_of(event.object) is None:
        return NOTHING
    return Changes(checkout_session=_session(event, "expired"))


def _finished(event: Event, outcome: Outcome) -> Changes:
    if id_of(event.object) is None:
        return NOTHING
    payment = _payment(event, outcome) if event.object.get("mode") == "payment" else None
    return Changes(
        checkout_session=_session(event, "completed"),
        claim=_claim(event.object),
        payment=payment,
    )


def _session(event: Event, status: Literal["completed", "expired"]) -> CheckoutSessionChange:
    session = event.object
    payment_status = session.get("payment_status")
    return CheckoutSessionChange(
        session_id=str(session["id"]),
        row_id=_row_id(session),
        status=status,
        payment_status=payment_status if payment_status in _PAYMENT_STATUSES else None,
        customer_id=id_of(session.get("customer")),
        payment_intent_id=id_of(session.get("payment_intent")),
        subscription_id=id_of(session.get("subscription")),
        url=text(session.get("url")),
        # The result of an asynchronous payment comes after the completion, even in one second.
        rank=1 if "async_payment" in event.type else 0,
    )


def _row_id(session: StripeObject) -> str | None:
    row_id = text(hash_of(session.get("metadata")).get("insforge_checkout_session_id"))
    try:
        return str(UUID(row_id)) if row_id else None
    except ValueError:
        return None


def _claim(session: StripeObject) -> ClaimChange | None:
    subject = subject_of(session.get("metadata"))
    customer_id = id_of(session.get("customer"))
    if subject is None or customer_id is None:
        return None
    return ClaimChange(
        customer_id=customer_id,
        subject_type=subject.type,
        subject_id=subject.id,
        kind="checkout",
        ref=str(session["id"]),
    )


def _payment(event: Event, outcome: Outcome) -> PaymentChange:
    session = event.object
    session_id = str(session["id"])
    subject = subject_of(session.get("metadata"))
    payment_intent_id = id_of(session.get("payment_intent"))
    presentment_amount, presentment_currency = presentment_of(session)
    source = PaymentSource(
        object_type="checkout_session",
        object_id=session_id,
        outcome=outcome,
        place=Place.CHECKOUT_SESSION,
        type="one_time_payment",
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
        customer_id=id_of(session.get("customer")),
        email=text(hash_of(session.get("customer_details")).get("email")),
        amount=integer(session.get("amount_total")),
        currency=text(session.get("currency")),
        presentment_amount=presentment_amount,
        presentment_currency=presentment_currency,
        happened_at=None if outcome == "pending" else event.created,
        created=timestamp(session.get("created")),
        related=compact(
            checkout_session=session_id,
            payment_intent=payment_intent_id,
            subscription=id_of(session.get("subscription")),
        ),
    )
    refs = compact(
        checkout_session=session_id,
        payment_intent=payment_intent_id,
        invoice=id_of(session.get("invoice")),
    )
    return PaymentChange(refs=listed(refs), source=source)
