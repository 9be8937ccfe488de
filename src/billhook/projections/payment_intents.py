"""payment_intent.* → the payment, whoever created it: totals are those of the whole account."""

from __future__ import annotations

from billhook.kinds.reading import (
    StripeObject,
    compact,
    entries,
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
    Event,
    Outcome,
    PaymentChange,
    PaymentSource,
    Place,
)


def payment_intent_succeeded(event: Event) -> Changes:
    """What was captured counts, which may be less than what was authorized."""
    return _payment(event, "succeeded")


def payment_intent_failed(event: Event) -> Changes:
    return _payment(event, "failed")


def payment_intent_canceled(event: Event) -> Changes:
    """An authorization that was never captured, or an abandoned payment. One that nobody tried to
    pay creates no row."""
    return _payment(event, "canceled")


def payment_intent_processing(event: Event) -> Changes:
    """A bank debit of Billhook's, which takes days. Others are not payments before they succeed."""
    if hash_of(event.object.get("metadata")).get("insforge_checkout_mode") != "payment":
        return NOTHING
    return _payment(event, "pending")


def _payment(event: Event, outcome: Outcome) -> Changes:
    intent = event.object
    intent_id = id_of(intent)
    if intent_id is None:
        return NOTHING
    metadata = hash_of(intent.get("metadata"))
    ours = metadata.get("insforge_checkout_mode") == "payment"
    subject = subject_of(metadata)
    refs = compact(
        payment_intent=intent_id,
        charge=_latest_charge(intent),
        invoice=id_of(intent.get("invoice")),  # before basil
    )
    asked, received = integer(intent.get("amount")), integer(intent.get("amount_received"))
    succeeded = outcome == "succeeded"
    amount = received if succeeded and received is not None else asked
    created = timestamp(intent.get("created"))
    presentment_amount, presentment_currency = presentment_of(intent)
    source = PaymentSource(
        object_type="payment_intent",
        object_id=intent_id,
        outcome=outcome,
        place=Place.OUR_PAYMENT_INTENT if ours else Place.PAYMENT_INTENT,
        type="one_time_payment" if outcome in ("succeeded", "pending") else "failed_payment",
        subject_type=subject.type if subject else None,
        subject_id=subject.id if subject else None,
        customer_id=id_of(intent.get("customer")),
        email=text(intent.get("receipt_email")),
        amount=amount,
        full_amount=asked if asked != amount else None,
        currency=text(intent.get("currency")),
        presentment_amount=presentment_amount,
        presentment_currency=presentment_currency,
        description=text(intent.get("description")),
        happened_at=_happened_at(intent, outcome),
        created=created,
        related=refs,
    )
    return Changes(payment=PaymentChange(refs=listed(refs), source=source))


def _happened_at(intent: StripeObject, outcome: Outcome) -> int | None:
    if outcome == "pending":
        return None
    canceled_at = timestamp(intent.get("canceled_at")) if outcome == "canceled" else None
    return canceled_at or timestamp(intent.get("created"))


def _latest_charge(intent: StripeObject) -> str | None:
    """Until 2022-11-15 a PaymentIntent listed its charges, the newest first (stripe-facts 27)."""
    charges = entries(intent.get("charges"))
    return id_of(intent.get("latest_charge")) or (id_of(charges[0]) if charges else None)
