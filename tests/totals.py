"""What the overview counts on each day, and the same counted in another way."""

from __future__ import annotations

from datetime import date
from typing import Any

from billhook.reports.overview import _FIGURES, _PAID
from books import Books

# One statement for each thing that may be counted.
_ANEW = """
    SELECT environment, (at AT TIME ZONE 'UTC')::date AS day, currency,
        sum(payments) AS payments, sum(refunds) AS refunds, sum(succeeded) AS succeeded,
        sum(refunded) AS refunded, sum(failed) AS failed
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
    GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def figures(books: Books) -> list[tuple[Any, ...]]:
    """Of every environment, day and currency: what an overview shows."""
    return sorted(
        (environment, row["day"], row["currency"], *(int(row[name] or 0) for name in _PAID))
        for environment in ("live", "test")
        for row in books.rows(_FIGURES, environment, date.min, date.min, date.max)
    )


def assert_exact(books: Books) -> None:
    """What an overview shows is what is there."""
    assert figures(books) == [tuple(row.values()) for row in books.rows(_ANEW)]
