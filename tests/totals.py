"""The totals of the days, as a reader adds them up, and counted anew from every transaction."""

from __future__ import annotations

from typing import Any

from books import Books

_SUMS = """
    sum(payments)::bigint AS payments, sum(refunds)::bigint AS refunds,
    sum(succeeded)::bigint AS succeeded, sum(refunded)::bigint AS refunded,
    sum(failed)::bigint AS failed
"""
_KEPT = f"""
    SELECT environment, day, currency, {_SUMS}
    FROM (SELECT * FROM billhook.daily_totals UNION ALL SELECT * FROM billhook.daily_changes) AS t
    GROUP BY 1, 2, 3
    HAVING (sum(payments), sum(refunds), sum(succeeded), sum(refunded), sum(failed))
        <> (0, 0, 0, 0, 0)
"""
_ANEW = f"""
    SELECT environment, (at AT TIME ZONE 'UTC')::date AS day, currency, {_SUMS}
    FROM (
        SELECT environment, currency, coalesce(paid_at, provider_created_at, created_at) AS at,
            coalesce(amount, 0) AS payments, 0 AS refunds, 1 AS succeeded, 0 AS refunded,
            0 AS failed
        FROM payments.transactions
        WHERE provider = 'stripe' AND currency <> '' AND type <> 'refund'
          AND status IN ('succeeded', 'refunded', 'partially_refunded')
          AND canceled_at IS NULL AND (amount > 0 OR amount_out_of_band = 0)
        UNION ALL
        SELECT environment, currency, coalesce(refunded_at, provider_created_at, created_at),
            0, coalesce(amount, 0), 0, 1, 0
        FROM payments.transactions
        WHERE provider = 'stripe' AND currency <> '' AND type = 'refund' AND status = 'refunded'
          AND canceled_at IS NULL AND (amount > 0 OR amount_out_of_band = 0)
        UNION ALL
        SELECT environment, currency, coalesce(failed_at, provider_created_at, created_at),
            0, 0, 0, 0, 1
        FROM payments.transactions
        WHERE provider = 'stripe' AND currency <> '' AND type <> 'refund' AND status = 'failed'
          AND canceled_at IS NULL AND (amount > 0 OR amount_out_of_band = 0)
    ) AS counted
    GROUP BY 1, 2, 3
"""
# One statement, so one moment.
DIFFERENCES = f"""
    (SELECT 'kept' AS only, k.* FROM ({_KEPT} EXCEPT {_ANEW}) k)
    UNION ALL
    (SELECT 'anew', a.* FROM ({_ANEW} EXCEPT {_KEPT}) a)
"""
_SUBSCRIPTIONS_KEPT = """
    SELECT environment, status, sum(subscriptions)::bigint AS subscriptions
    FROM (SELECT * FROM billhook.subscription_totals
          UNION ALL SELECT * FROM billhook.subscription_changes) AS t
    GROUP BY 1, 2 HAVING sum(subscriptions) <> 0
"""
_SUBSCRIPTIONS_ANEW = """
    SELECT environment, status, count(*) FROM payments.stripe_subscriptions GROUP BY 1, 2
"""
SUBSCRIPTION_DIFFERENCES = f"""
    (SELECT 'kept' AS only, k.* FROM ({_SUBSCRIPTIONS_KEPT} EXCEPT {_SUBSCRIPTIONS_ANEW}) k)
    UNION ALL
    (SELECT 'anew', a.* FROM ({_SUBSCRIPTIONS_ANEW} EXCEPT {_SUBSCRIPTIONS_KEPT}) a)
"""
KEPT = f"{_KEPT} ORDER BY environment, day, currency"
FOLD = "SELECT billhook.fold_changes($1)"


def assert_exact(books: Books) -> None:
    """What a reader adds up is what is there."""
    assert books.rows(DIFFERENCES) == []
    assert books.rows(SUBSCRIPTION_DIFFERENCES) == []


def kept(books: Books) -> list[tuple[Any, ...]]:
    """The totals of all days on which something was."""
    return [tuple(row.values()) for row in books.rows(KEPT)]
