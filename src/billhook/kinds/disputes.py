"""Disputes: a cardholder asks the bank to reverse a payment.

A dispute also shows in columns of its payment: see billhook/projections/disputes.py.
"""

from __future__ import annotations

from typing import Literal

from billhook.kinds import kind
from billhook.kinds.kind import Kind, Listed
from billhook.kinds.reading import StripeObject, hash_of, timestamp


def due_by(dispute: StripeObject) -> int | None:
    """Until when Stripe accepts evidence."""
    return timestamp(hash_of(dispute.get("evidence_details")).get("due_by"))


CLOSED = frozenset({"won", "lost", "warning_closed", "prevented"})
"""Statuses that do not change any more."""


def progress(dispute: StripeObject) -> Literal[0, 1]:
    """Whether it is closed."""
    return 1 if dispute.get("status") in CLOSED else 0


DISPUTE = Kind(
    name="dispute",
    table="stripe_disputes",
    key="dispute_id",
    columns=(
        kind.reference("charge_id", "charge"),
        kind.reference("payment_intent_id", "payment_intent"),
        kind.amount("amount"),
        kind.text("currency"),
        kind.text("reason"),
        kind.required("status"),
        kind.computed("evidence_due_by", "timestamptz", due_by),
        kind.metadata(),
        kind.time("provider_created_at", "created"),
    ),
    path="/v1/disputes",
    changed_by=tuple(
        f"charge.dispute.{what}"
        for what in ("created", "updated", "closed", "funds_withdrawn", "funds_reinstated")
    ),
    progress=progress,
    listed=Listed(
        about="Disputes: payments that cardholders have asked their bank to reverse.",
        references=("charge_id", "payment_intent_id", "currency"),
        choice="status",
        choices=(
            "warning_needs_response",
            "warning_under_review",
            "warning_closed",
            "needs_response",
            "under_review",
            "appeal_needs_response",
            "appeal_under_review",
            "won",
            "lost",
            "prevented",
        ),
        summary=(
            "status",
            "amount",
            "reason",
            "payment_intent_id",
            "evidence_due_by",
            "provider_created_at",
        ),
    ),
)
