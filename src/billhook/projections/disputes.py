"""A dispute → the payment that it belongs to, which shows what the mirrored dispute says."""

from __future__ import annotations

from billhook.kinds.reading import StripeObject, compact, id_of, listed
from billhook.projections.changes import PaymentChange


def disputed_payment(dispute: StripeObject) -> PaymentChange | None:
    """The disputed payment; None if the dispute names none."""
    dispute_id = id_of(dispute)
    refs = compact(
        payment_intent=id_of(dispute.get("payment_intent")), charge=id_of(dispute.get("charge"))
    )
    if dispute_id is None or not refs:
        return None
    return PaymentChange(refs=listed(refs | {"dispute": dispute_id}))
