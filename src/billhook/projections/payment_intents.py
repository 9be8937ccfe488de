"""payment_intent.* → the payment, whoever asked for it: the sums are those of the whole account."""

from __future__ import annotations

from typing import Literal

from billhook.projections.changes import NOTHING, Changes, Event, PaymentChange, PaymentSource
from billhook.projections.shapes import (
    compact,
    id_of,
    integer,
    subject_of,
    text,
    timestamp,
)


def payment_intent_succeeded(event: Event) -> Changes:
    return _payment(event, "succeeded")


def payment_intent_failed(event: Event) -> Changes:
    return _payment(event, "failed")


def _payment(event: Event, outcome: Literal["succeeded", "failed"]) -> Changes:
    intent = event.object
    intent_id = id_of(intent)
    if intent_id is None:
        return NOTHING
    subject = subject_of(intent.get("metadata"))
    refs = compact(payment_intent=intent_id, charge=id_of(intent.get("latest_charge")))
    succeeded = outcome == "succeeded"
    source = PaymentSource(
        object_type="payment_intent",
        object_id=intent_id,
        outcome=outcome,
        type="one_time_payment" if succeeded else "failed_payment",
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
        customer_id=id_of(intent.get("customer")),
        email=text(intent.get("receipt_email")),
        amount=integer(intent.get("amount_received" if succeeded else "amount")),
        currency=text(intent.get("currency")),
        description=text(intent.get("description")),
        happened_at=timestamp(intent.get("created")),
        created=timestamp(intent.get("created")),
        related=refs,
    )
    return Changes(payment=PaymentChange(refs=refs, source=source))
