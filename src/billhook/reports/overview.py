"""Payments and refunds over time, and the number of subscriptions.

They are summed for each request, from an index with all the columns needed
(docs/decisions/0014-daily-totals.md).
"""

from __future__ import annotations

from datetime import date, timedelta

from billhook.models import CurrencyFigures, DayFigures, Figures, Overview
from billhook.postgres import Database
from billhook.reports.counted import COUNTS, DAY, FIGURES, SHARES
from billhook.settings import Environment

# The rows come from the index in the order of their groups, so they are not sorted. The days before
# $3 are the previous period: its row has no day.
_FIGURES = f"""
SELECT currency, CASE WHEN day >= $3 THEN day END AS day,
    pg_catalog.sum(amount) FILTER (WHERE {SHARES["payments"]}) AS payments,
    pg_catalog.sum(amount) FILTER (WHERE {SHARES["refunds"]}) AS refunds,
    pg_catalog.sum(number) FILTER (WHERE {SHARES["payments"]}) AS succeeded,
    pg_catalog.sum(number) FILTER (WHERE {SHARES["refunds"]}) AS refunded,
    pg_catalog.sum(number) FILTER (WHERE {SHARES["failed"]}) AS failed
FROM (
    SELECT {DAY} AS day, currency, type, status,
        pg_catalog.sum(amount) AS amount, count(*) AS number
    FROM payments.transactions
    WHERE environment = $1 AND {DAY} BETWEEN $2 AND $4
        AND {COUNTS}
    GROUP BY 1, 2, 3, 4) AS counted
GROUP BY 1, 2
"""  # noqa: S608
# From the index transactions_lost.
_LOST = f"""
SELECT currency, CASE WHEN {FIGURES["lost"].day} >= $3 THEN {FIGURES["lost"].day} END AS day,
    pg_catalog.sum(amount_lost) AS lost, count(*) AS disputes_lost
FROM payments.transactions
WHERE environment = $1 AND {FIGURES["lost"].where} AND {FIGURES["lost"].day} BETWEEN $2 AND $4
GROUP BY 1, 2
"""  # noqa: S608
SUBSCRIPTIONS = """
SELECT status, count(*) AS subscriptions FROM payments.stripe_subscriptions
WHERE environment = $1 GROUP BY status ORDER BY subscriptions DESC, status
"""
_NAMES = tuple(Figures.model_fields)
_PAID = tuple(name for name in _NAMES if name not in ("lost", "disputes_lost"))


async def overview(
    database: Database, environment: Environment, days: int, today: date
) -> Overview:
    """The figures of the `days` days that end with `today`, in UTC."""
    since = today - timedelta(days=days - 1)
    before = since - timedelta(days=days)
    async with database.connection() as connection:
        rows = await connection.fetch(_FIGURES, environment, before, since, today)
        lost = await connection.fetch(_LOST, environment, before, since, today)
        counted = await connection.fetch(SUBSCRIPTIONS, environment)
    found: dict[str, dict[date | None, Figures]] = {}
    for row in rows:
        figures = Figures(**{name: int(row[name] or 0) for name in _PAID})
        found.setdefault(row["currency"], {})[row["day"]] = figures
    for row in lost:
        figures = found.setdefault(row["currency"], {}).setdefault(row["day"], Figures())
        figures.lost, figures.disputes_lost = int(row["lost"]), row["disputes_lost"]
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
