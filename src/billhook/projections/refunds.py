"""refund.* and charge.refund.updated → a refund, and the amount that it refunded of its payment."""

from __future__ import annotations

from typing import Literal

from billhook.kinds.reading import (
    compact,
    id_of,
    integer,
    listed,
    presentment_of,
    text,
    timestamp,
)
from billhook.projections.changes import (
    NOTHING,
    Changes,
    Event,
    PaymentChange,
    Rank,
    RefundFacts,
)

_STATUS: dict[object, tuple[Literal["pending", "refunded", "failed"], Rank]] = {
    None: ("refunded", 0),  # refunds from before they had a status; their charge counts them
    "succeeded": ("refunded", 1),
    "failed": ("failed", 2),
    "canceled": ("failed", 2),
}


def refund_changed(event: Event) -> Changes:
    """refund.created, refund.updated, refund.failed; and charge.refund.updated, which is all that
    API versions before 2024-10-28 send of a refund that changed."""
    refund = event.object
    refund_id = id_of(refund)
    if refund_id is None:
        return NOTHING
    told = refund.get("status")
    status, rank = _STATUS.get(None if told is None else text(told) or "", ("pending", 0))
    intent_id, charge_id = id_of(refund.get("payment_intent")), id_of(refund.get("charge"))
    presentment_amount, presentment_currency = presentment_of(refund)
    facts = RefundFacts(
        object_type="refund",
        object_id=refund_id,
        status=status,
        amount=integer(refund.get("amount")) or 0,
        currency=text(refund.get("currency")),
        presentment_amount=presentment_amount,
        presentment_currency=presentment_currency,
        description=text(refund.get("description")) or text(refund.get("reason")),
        payment_intent_id=intent_id,
        charge_id=charge_id,
        created=timestamp(refund.get("created")),
        rank=rank,
    )
    # A refund that names no payment stands alone until it does.
    refs = compact(payment_intent=intent_id, charge=charge_id, refund=refund_id)
    return Changes(payment=PaymentChange(refs=listed(refs), refund=facts))
