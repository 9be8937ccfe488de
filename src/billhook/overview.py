"""Payments and refunds over time, and the number of subscriptions.

The figures are exact at any moment: the totals of each day, and the changes that have not been
folded into them yet, are read in one statement (docs/decisions/0007-daily-totals.md).
"""

from __future__ import annotations

from datetime import date, timedelta

from billhook.db import Database
from billhook.models import CurrencyFigures, DayFigures, Figures, Overview
from billhook.settings import Environment

# The days before $3 are one period, that before: its row has no day.
_FIGURES = """
SELECT currency, CASE WHEN day >= $3 THEN day END AS day,
    pg_catalog.sum(payments) AS payments, pg_catalog.sum(refunds) AS refunds,
    pg_catalog.sum(succeeded)::bigint AS succeeded,
    pg_catalog.sum(refunded)::bigint AS refunded, pg_catalog.sum(failed)::bigint AS failed
FROM billhook.daily_figures($1, $2, $4) GROUP BY 1, 2
"""
_SUBSCRIPTIONS = """
SELECT status, subscriptions FROM billhook.subscription_figures($1)
WHERE subscriptions <> 0 ORDER BY subscriptions DESC, status
"""
_NAMES = tuple(Figures.model_fields)


async def overview(
    database: Database, environment: Environment, days: int, today: date
) -> Overview:
    """The figures of the `days` days that end with `today`, in UTC."""
    since = today - timedelta(days=days - 1)
    before = since - timedelta(days=days)
    async with database.connection() as connection:
        rows = await connection.fetch(_FIGURES, environment, before, since, today)
        counted = await connection.fetch(_SUBSCRIPTIONS, environment)
    found: dict[str, dict[date | None, Figures]] = {}
    for row in rows:
        figures = Figures(**{name: int(row[name]) for name in _NAMES})
        if figures != Figures():
            found.setdefault(row["currency"], {})[row["day"]] = figures
    period = [since + timedelta(days=number) for number in range(days)]
    currencies = [_currency(name, found[name], period) for name in sorted(found)]
    currencies.sort(key=lambda each: (-each.total.succeeded, -each.previous.succeeded))
    return Overview(
        environment=environment,
        since=since,
        until=today,
        currencies=currencies,
        subscriptions={row["status"]: row["subscriptions"] for row in counted},
    )


def _currency(
    currency: str, found: dict[date | None, Figures], period: list[date]
) -> CurrencyFigures:
    nothing = Figures()
    shown = [found.get(day, nothing) for day in period]
    return CurrencyFigures(
        currency=currency,
        total=Figures(**{name: sum(getattr(each, name) for each in shown) for name in _NAMES}),
        previous=found.get(None, nothing),
        days=[
            DayFigures(day=day, **each.model_dump())
            for day, each in zip(period, shown, strict=True)
        ],
    )
