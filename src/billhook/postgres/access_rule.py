"""Which subscriptions give access, as SQL. The view `payments.active_subscriptions` and the
functions (functions/access.sql) contain this text, so that the rule exists once.

Each is about a row `s` of `payments.stripe_subscriptions`.
"""

from __future__ import annotations

COUNTING = ("active", "trialing", "past_due")
"""Stripe's statuses that give access; `past_due` only until the grace ends."""

UNPAID_SINCE = """coalesce((
        SELECT pg_catalog.min(coalesce(i.due_date, i.provider_created_at))
        FROM payments.stripe_invoices i
        WHERE i.environment = s.environment AND i.subscription_id = s.subscription_id
          AND i.status = 'open'), s.current_period_start)"""
"""When the oldest unpaid invoice was due. If none is mirrored, the start of the period: there, the
renewal was due."""

_STATUSES = ", ".join(f"'{each}'" for each in COUNTING)
VALUES = {
    "unpaid_since": UNPAID_SINCE,
    "is_open": f"s.status IN ({_STATUSES})\n"
    "      AND (s.cancel_at IS NULL OR s.cancel_at > pg_catalog.now())",
}
"""By the name that stands for it in the text of SQL functions."""
