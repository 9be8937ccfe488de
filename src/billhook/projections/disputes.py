"""A dispute → what it says about its payment."""

from __future__ import annotations

from billhook.kinds.disputes import due_by, progress
from billhook.kinds.reading import StripeObject, compact, id_of, integer, listed, text, timestamp
from billhook.projections.changes import DisputeFacts, PaymentChange


def disputed_payment(dispute: StripeObject) -> PaymentChange | None:
    """The disputed payment; None if the dispute names none."""
    dispute_id, status = id_of(dispute), text(dispute.get("status"))
    refs = compact(
        payment_intent=id_of(dispute.get("payment_intent")), charge=id_of(dispute.get("charge"))
    )
    if dispute_id is None or status is None or not refs:
        return None
    facts = DisputeFacts(
        object_id=dispute_id,
        status=status,
        reason=text(dispute.get("reason")),
        amount=integer(dispute.get("amount")) or 0,
        currency=text(dispute.get("currency")),
        due_by=due_by(dispute),
        created=timestamp(dispute.get("created")),
        rank=progress(dispute),
    )
    return PaymentChange(refs=listed(refs), dispute=facts)
