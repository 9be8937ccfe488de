"""charge.* → what a charge refunded, and charges without a PaymentIntent."""

from __future__ import annotations

from billhook.kinds.reading import (
    StripeObject,
    compact,
    entries,
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
    Event,
    Outcome,
    PaymentChange,
    PaymentSource,
    Place,
    RefundFacts,
)


def captured(charge: StripeObject) -> int | None:
    """How much of a charge was captured; older API versions say only whether."""
    amount = integer(charge.get("amount_captured"))
    if amount is not None:
        return amount
    return 0 if charge.get("captured") is False else integer(charge.get("amount"))


def given_back(charge: StripeObject) -> int:
    """The amount that a charge refunded. Stripe's `amount_refunded` also counts what was authorized
    and released without being captured; more may be captured than was authorized."""
    refunded = integer(charge.get("amount_refunded")) or 0
    amount = integer(charge.get("amount"))
    released = 0 if amount is None else max(amount - (captured(charge) or 0), 0)
    return max(refunded - released, 0)


def charge_refunded(event: Event) -> Changes:
    """Refunded fully or partially, or a released authorization (stripe-facts 29)."""
    charge = event.object
    charge_id = id_of(charge)
    if charge_id is None or integer(charge.get("amount_refunded")) is None:
        return NOTHING
    times = [timestamp(refund.get("created")) or 0 for refund in entries(charge.get("refunds"))]
    intent_id = id_of(charge.get("payment_intent"))
    refund = RefundFacts(
        object_type="charge",
        object_id=charge_id,
        status="refunded",
        amount=given_back(charge),
        currency=text(charge.get("currency")),
        payment_intent_id=intent_id,
        charge_id=charge_id,
        created=max(times, default=0) or event.created,
        rank=0,
    )
    source = None
    if captured(charge) == 0 and charge.get("refunded") is True:
        source = _source(charge, "canceled", event.created)
    elif intent_id is None:
        source = _succeeded(charge)
    return Changes(payment=PaymentChange(refs=_refs(charge), source=source, refund=refund))


def charge_succeeded(event: Event) -> Changes:
    """charge.succeeded and charge.captured: a charge of the legacy Charges API, without a
    PaymentIntent. One that is only authorized is no payment yet."""
    charge = event.object
    if id_of(charge) is None or id_of(charge.get("payment_intent")):
        return NOTHING
    source = _succeeded(charge)
    return Changes(payment=PaymentChange(refs=_refs(charge), source=source)) if source else NOTHING


def _succeeded(charge: StripeObject) -> PaymentSource | None:
    if not captured(charge) or charge.get("status", "succeeded") != "succeeded":
        return None
    return _source(charge, "succeeded", timestamp(charge.get("created")))


def _source(charge: StripeObject, outcome: Outcome, at: int | None) -> PaymentSource:
    subject = subject_of(charge.get("metadata"))
    asked = integer(charge.get("amount"))
    amount = captured(charge) if outcome == "succeeded" else asked
    presentment_amount, presentment_currency = presentment_of(charge)
    return PaymentSource(
        object_type="charge",
        object_id=str(charge["id"]),
        outcome=outcome,
        place=Place.CHARGE,
        type="one_time_payment" if outcome == "succeeded" else "failed_payment",
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
        customer_id=id_of(charge.get("customer")),
        email=text(charge.get("receipt_email")),
        amount=amount,
        full_amount=asked if asked != amount else None,
        currency=text(charge.get("currency")),
        presentment_amount=presentment_amount,
        presentment_currency=presentment_currency,
        description=text(charge.get("description")),
        happened_at=at,
        created=timestamp(charge.get("created")),
        related=_ids(charge),
    )


def _refs(charge: StripeObject) -> dict[str, list[str]]:
    return listed(_ids(charge))


def _ids(charge: StripeObject) -> dict[str, str]:
    return compact(
        charge=id_of(charge),
        payment_intent=id_of(charge.get("payment_intent")),
        invoice=id_of(charge.get("invoice")),
    )
