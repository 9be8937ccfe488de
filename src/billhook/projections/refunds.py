"""charge.refunded and refund.* → what went back of a payment."""

from __future__ import annotations

from typing import Literal

from billhook.projections.changes import (
    NOTHING,
    Changes,
    Event,
    PaymentChange,
    Rank,
    RefundFacts,
)
from billhook.projections.shapes import compact, entries, id_of, integer, text, timestamp

_STATUS: dict[object, tuple[Literal["pending", "refunded", "failed"], Rank]] = {
    "succeeded": ("refunded", 1),
    "failed": ("failed", 2),
    "canceled": ("failed", 2),
}


def charge_refunded(event: Event) -> Changes:
    """`amount_refunded` is the running total, also of partial refunds (stripe-facts 29)."""
    charge = event.object
    charge_id = id_of(charge)
    amount = integer(charge.get("amount_refunded"))
    if charge_id is None or amount is None:
        return NOTHING
    times = [timestamp(refund.get("created")) or 0 for refund in entries(charge.get("refunds"))]
    refund = RefundFacts(
        object_type="charge",
        object_id=charge_id,
        status="refunded",
        amount=amount,
        currency=text(charge.get("currency")),
        description=None,
        charge_id=charge_id,
        created=max(times, default=0) or event.created,
        rank=0,
    )
    refs = compact(
        charge=charge_id,
        payment_intent=id_of(charge.get("payment_intent")),
        invoice=id_of(charge.get("invoice")),
    )
    return Changes(payment=PaymentChange(refs=refs, refund=refund))


def refund_changed(event: Event) -> Changes:
    """refund.created, refund.updated, refund.failed."""
    refund = event.object
    refund_id = id_of(refund)
    if refund_id is None:
        return NOTHING
    status, rank = _STATUS.get(refund.get("status"), ("pending", 0))
    charge_id = id_of(refund.get("charge"))
    refs = compact(payment_intent=id_of(refund.get("payment_intent")), charge=charge_id)
    facts = RefundFacts(
        object_type="refund",
        object_id=refund_id,
        status=status,
        amount=integer(refund.get("amount")) or 0,
        currency=text(refund.get("currency")),
        description=text(refund.get("description")) or text(refund.get("reason")),
        charge_id=charge_id,
        created=timestamp(refund.get("created")),
        rank=rank,
    )
    # A refund that names no payment stands alone.
    return Changes(payment=PaymentChange(refs=refs or {"refund": refund_id}, refund=facts))
