"""The figures of a business, for a period and the one before. They are summed for each request,
from indexes that contain all columns needed (docs/explanation/business-figures.md)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from billhook.kinds.recurring import rounded
from billhook.models import (
    Business,
    BusinessOfCurrency,
    BusinessQuery,
    Flow,
    FlowOfBucket,
    NewCustomers,
    Renewals,
)
from billhook.models.queries import TransactionFigure
from billhook.postgres import Database
from billhook.reports.counted import COUNTS, DAY, FAILED_BEFORE, FIGURES, SHARES
from billhook.reports.overview import SUBSCRIPTIONS
from billhook.reports.periods import Period, Span, between, buckets_of, period_of, usual_bucket
from billhook.settings import Environment

_LOST = FIGURES["lost"]


_OF_PAYMENTS: tuple[TransactionFigure, ...] = (*SHARES, "recovered")


def _filtered(figure: TransactionFigure, of: str = "") -> str:
    """The amount and the number of a figure, by type and status."""
    share = SHARES[figure]
    return f"""
    coalesce(pg_catalog.sum({of}amount) FILTER (WHERE {share}), 0) AS {of or figure + "_"}amount,
    coalesce(pg_catalog.sum({of}number) FILTER (WHERE {share}), 0) AS {of or figure + "_"}number"""


# The rows come from the index in the order of their groups, so they are not sorted.
_PAYMENTS = f"""
SELECT day, currency, {", ".join(map(_filtered, SHARES))}, {_filtered("payments", "recovered_")}
FROM (
    SELECT {DAY} AS day, currency, type, status,
        pg_catalog.sum(amount) AS amount, count(*) AS number,
        pg_catalog.sum(amount) FILTER (WHERE {FAILED_BEFORE}) AS recovered_amount,
        count(*) FILTER (WHERE {FAILED_BEFORE}) AS recovered_number
    FROM payments.transactions
    WHERE environment = $1 AND {DAY} BETWEEN $2 AND $3 AND {COUNTS}
    GROUP BY 1, 2, 3, 4) AS counted
GROUP BY 1, 2
"""  # noqa: S608
_LOST_BY_DAY = f"""
SELECT {_LOST.day} AS day, currency, pg_catalog.sum(amount_lost) AS amount, count(*) AS number
FROM payments.transactions
WHERE environment = $1 AND {_LOST.day} BETWEEN $2 AND $3 AND {_LOST.where}
GROUP BY 1, 2
"""  # noqa: S608
_CREATED = "coalesce(provider_created_at, created_at)"
_IN_DAYS = f"""{_CREATED} >= $2::date::timestamp AT TIME ZONE 'UTC'
    AND {_CREATED} < ($3::date + 1)::timestamp AT TIME ZONE 'UTC'"""
_DISPUTES = f"""
SELECT ({_CREATED} AT TIME ZONE 'UTC')::date AS day, currency,
    coalesce(pg_catalog.sum(amount), 0) AS amount, count(*) AS number
FROM payments.stripe_disputes
WHERE environment = $1 AND {_IN_DAYS} AND currency <> ''
GROUP BY 1, 2
"""  # noqa: S608
_CUSTOMERS = f"""
SELECT ({_CREATED} AT TIME ZONE 'UTC')::date AS day, count(*) AS number
FROM payments.customers
WHERE provider = 'stripe' AND environment = $1 AND {_IN_DAYS}
GROUP BY 1
"""  # noqa: S608
# What it is now (the rows without a day), and how it has changed since the period began, so that
# the cost does not grow with the history. One statement, so that both are of one moment.
_MOVEMENTS = """
SELECT day, currency, kind, pg_catalog.sum(amount) AS amount, count(*) AS number
FROM payments.mrr_movements WHERE environment = $1 AND day >= $2
GROUP BY 1, 2, 3
UNION ALL
SELECT NULL, currency, NULL, pg_catalog.sum(mrr), count(*)
FROM payments.mrr_movements WHERE environment = $1 AND latest AND mrr > 0
GROUP BY currency
"""
_PAYING = """
SELECT currency, count(*) AS subscriptions,
    count(*) FILTER (WHERE in_7_days) AS number_7,
    coalesce(pg_catalog.sum(renewal_amount) FILTER (WHERE in_7_days), 0) AS amount_7,
    count(*) FILTER (WHERE in_30_days) AS number_30,
    coalesce(pg_catalog.sum(renewal_amount) FILTER (WHERE in_30_days), 0) AS amount_30
FROM (
    SELECT currency, renewal_amount,
        current_period_end >= $2 AND current_period_end < $3 AS in_7_days,
        current_period_end >= $2 AND current_period_end < $4 AS in_30_days
    FROM payments.stripe_subscriptions WHERE environment = $1 AND renewal_amount > 0) AS paying
GROUP BY 1
"""
_TRIALING = """
SELECT pg_catalog.count(DISTINCT customer_id) FROM payments.stripe_subscriptions
WHERE environment = $1 AND status = 'trialing'
"""
_NAMES = {
    "payments": ("payments", "succeeded"),
    "refunds": ("refunds", "refunded"),
    "failed": (None, "failed"),
    "recovered": ("recovered_amount", "recovered"),
    "lost": ("lost", "disputes_lost"),
    "opened": ("amount_disputed", "disputes_opened"),
    "new": ("mrr_new", "subscribers_new"),
    "reactivation": ("mrr_reactivation", "subscribers_reactivated"),
    "expansion": ("mrr_expansion", "expanded"),
    "contraction": ("mrr_contraction", "contracted"),
    "churn": ("mrr_churn", "subscribers_churned"),
}
"""What each counted thing adds to: an amount, and a number."""

Figures = dict[str, Any]
"""By the names of `Flow`."""


async def business(
    database: Database, environment: Environment, query: BusinessQuery, now: datetime
) -> Business:
    """The figures of the period that a query names, in UTC."""
    period = _period(query, now.date())
    bucket = query.bucket or usual_bucket(period.now)
    found = _Found(database, environment, period, now)
    await asyncio.gather(found.read_payments(), found.read_movements(), found.read_subscriptions())
    spans = [(each, buckets_of(each, bucket)) for each in (period.now, period.before)]
    currencies = [found.of_currency(name, spans) for name in found.currencies()]
    currencies.sort(key=lambda each: (-each.total.succeeded, -each.total.mrr_end, each.currency))
    customers = [
        [sum(found.customers.get(day, 0) for day in _days(part)) for part in parts]
        for _, parts in spans
    ]
    return Business(
        environment=environment,
        period=None if query.since else query.period or "30d",
        since=period.now.since,
        until=period.now.until,
        previous_since=period.before.since,
        previous_until=period.before.until,
        bucket=bucket,
        currencies=currencies,
        new_customers=NewCustomers(
            total=sum(customers[0]),
            previous=sum(customers[1]),
            buckets=customers[0],
            previous_buckets=customers[1],
        ),
        subscriptions=found.statuses,
        trialing_customers=found.trialing_customers,
    )


def _period(query: BusinessQuery, today: date) -> Period:
    if query.since is not None and query.until is not None:
        return between(query.since, query.until)
    return period_of(query.period or "30d", today)


class _Found:
    """What the queries found, by currency and day."""

    def __init__(
        self, database: Database, environment: Environment, period: Period, now: datetime
    ) -> None:
        self._database = database
        self._environment = environment
        self._days = (period.before.since, period.now.until)
        self._now = now
        self._sums: dict[str, dict[date, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._current: dict[str, tuple[int, int]] = {}
        self._paying: dict[str, Mapping[str, int]] = {}
        self.customers: dict[date, int] = {}
        self.statuses: dict[str, int] = {}
        self.trialing_customers = 0

    async def read_payments(self) -> None:
        args = (self._environment, *self._days)
        async with self._database.connection() as connection:
            for row in await connection.fetch(_PAYMENTS, *args):
                for figure in _OF_PAYMENTS:
                    amount, number = row[f"{figure}_amount"], row[f"{figure}_number"]
                    self._add(row["currency"], row["day"], figure, amount, number)
            for query, counted in ((_LOST_BY_DAY, "lost"), (_DISPUTES, "opened")):
                for row in await connection.fetch(query, *args):
                    self._add(row["currency"], row["day"], counted, row["amount"], row["number"])

    async def read_movements(self) -> None:
        environment = self._environment
        async with self._database.connection() as connection:
            for row in await connection.fetch(_MOVEMENTS, environment, self._days[0]):
                day, currency, kind, amount, number = row
                if day is None:
                    self._current[currency] = int(amount), number
                else:
                    self._add(currency, day, kind, amount, number)
            for row in await connection.fetch(_CUSTOMERS, environment, *self._days):
                self.customers[row["day"]] = row["number"]

    async def read_subscriptions(self) -> None:
        environment, now = self._environment, self._now
        soon = (now, now + timedelta(days=7), now + timedelta(days=30))
        async with self._database.connection() as connection:
            for row in await connection.fetch(_PAYING, environment, *soon):
                currency, *counted = row.items()
                self._paying[currency[1]] = {name: int(value) for name, value in counted}
            for row in await connection.fetch(SUBSCRIPTIONS, environment):
                self.statuses[row["status"]] = row["subscriptions"]
            self.trialing_customers = await connection.fetchval(_TRIALING, environment)

    def _add(
        self, currency: str, day: date, figure: str, amount: Decimal, number: Decimal | int
    ) -> None:
        of_amount, of_number = _NAMES[figure]
        sums = self._sums[currency][day]
        sums[of_number] += int(number)
        if of_amount is not None:
            sums[of_amount] += int(amount)

    def currencies(self) -> set[str]:
        return {*self._sums, *self._current, *self._paying}

    def of_currency(
        self, currency: str, spans: list[tuple[Span, list[Span]]]
    ) -> BusinessOfCurrency:
        (now, parts), (before, parts_before) = spans
        paying = self._paying.get(currency, {})
        return BusinessOfCurrency(
            currency=currency,
            total=Flow(**self._flows(currency, [now])[0]),
            previous=Flow(**self._flows(currency, [before])[0]),
            buckets=self._buckets(currency, parts),
            previous_buckets=self._buckets(currency, parts_before),
            paying_subscriptions=paying.get("subscriptions", 0),
            renewals_7_days=_renewals(paying, 7),
            renewals_30_days=_renewals(paying, 30),
        )

    def _buckets(self, currency: str, parts: list[Span]) -> list[FlowOfBucket]:
        flows = self._flows(currency, parts)
        return [
            FlowOfBucket(since=part.since, until=part.until, **flow)
            for part, flow in zip(parts, flows, strict=True)
        ]

    def _flows(self, currency: str, parts: list[Span]) -> list[Figures]:
        """The figures of spans that follow each other."""
        by_day = self._sums.get(currency, {})
        mrr, subscribers = self._current.get(currency, (0, 0))
        since = [sums for day, sums in by_day.items() if day >= parts[0].since]
        mrr -= sum(map(_moved, since))
        subscribers -= sum(map(_gained, since))
        found = []
        for part in parts:
            total: Counter[str] = Counter()
            for day in _days(part):
                total.update(by_day.get(day, {}))
            found.append(flow_of(total, mrr, subscribers))
            mrr += _moved(total)
            subscribers += _gained(total)
        return found


def flow_of(sums: Mapping[str, int], mrr: int, subscribers: int) -> Figures:
    """The figures of a period.

    Args:
        sums: what was counted in it.
        mrr, subscribers: before it.
    """
    names = {each for pair in _NAMES.values() for each in pair if each is not None}
    flow = {name: sums.get(name, 0) for name in names}
    mrr_end, subscribers_end = mrr + _moved(flow), subscribers + _gained(flow)
    lost = -(flow["mrr_contraction"] + flow["mrr_churn"])
    return {
        **flow,
        "net_volume": flow["payments"] - flow["refunds"] - flow["lost"],
        "mrr_start": mrr,
        "mrr_end": mrr_end,
        "subscribers_start": subscribers,
        "subscribers_end": subscribers_end,
        "subscriber_churn_rate": _rate(
            flow["subscribers_churned"], subscribers + flow["subscribers_new"]
        ),
        "mrr_churn_rate": _rate(lost, mrr),
        "arpu": rounded(Fraction(mrr_end, subscribers_end)) if subscribers_end > 0 else None,
    }


def _moved(sums: Mapping[str, int]) -> int:
    kinds = ("new", "reactivation", "expansion", "contraction", "churn")
    return sum(sums.get(f"mrr_{kind}", 0) for kind in kinds)


def _gained(sums: Mapping[str, int]) -> int:
    joined = sums.get("subscribers_new", 0) + sums.get("subscribers_reactivated", 0)
    return joined - sums.get("subscribers_churned", 0)


def _rate(part: int, whole: int) -> float | None:
    return round(part / whole, 6) if whole > 0 else None


def _renewals(paying: Mapping[str, int], days: int) -> Renewals:
    return Renewals(number=paying.get(f"number_{days}", 0), amount=paying.get(f"amount_{days}", 0))


def _days(span: Span) -> Iterable[date]:
    return (span.since + timedelta(days=number) for number in range(span.days))
