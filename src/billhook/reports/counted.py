"""Which transactions a figure counts, and when. Overviews and lists share it, so that a list shows
exactly the rows of a figure (docs/decisions/0014-daily-totals.md).

PostgreSQL uses the indexes transactions_by_day and transactions_lost for exactly these expressions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from billhook.models.queries import TransactionFigure

_AT = """coalesce(
    CASE WHEN type = 'refund' THEN refunded_at
         WHEN status = 'failed' THEN failed_at
         ELSE paid_at END,
    provider_created_at, created_at)"""
DAY = f"({_AT} AT TIME ZONE 'UTC')::date"
"""The UTC day on which a transaction counts."""
# Payments outside Stripe do not, nor do payments that were canceled without a failed attempt.
COUNTS = """provider = 'stripe' AND currency <> '' AND status <> 'pending'
    AND canceled_at IS NULL AND (amount_out_of_band = 0 OR amount > 0)
    AND (type <> 'refund' OR status = 'refunded')"""
"""Whether a transaction counts."""
_PAID = "type <> 'refund' AND status <> 'failed'"
SHARES: Mapping[TransactionFigure, str] = {
    "payments": _PAID,
    "refunds": "type = 'refund'",
    "failed": "type <> 'refund' AND status = 'failed'",
}
"""Of the transactions that count, those of a figure, by type and status."""
FAILED_BEFORE = "failed_at IS NOT NULL"
"""Whether a payment failed before it succeeded."""


@dataclass(frozen=True, slots=True)
class Counted:
    """What a figure counts.

    Attributes:
        where: beside the environment.
        at, day: when a row counts.
    """

    where: str
    at: str = _AT
    day: str = DAY


FIGURES: Mapping[TransactionFigure, Counted] = {
    **{figure: Counted(f"{COUNTS} AND {share}") for figure, share in SHARES.items()},
    "recovered": Counted(f"{COUNTS} AND {_PAID} AND {FAILED_BEFORE}"),
    "lost": Counted("amount_lost > 0", "disputed_at", "(disputed_at AT TIME ZONE 'UTC')::date"),
}
