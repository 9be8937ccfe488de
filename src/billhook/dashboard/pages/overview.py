"""The first page: the figures of the business, and what needs attention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import cast

from starlette.responses import RedirectResponse, Response

from billhook.access.policies import session_tables
from billhook.dashboard import attention, chart, figures, first_steps
from billhook.dashboard.visit import Visit
from billhook.mirror.status import mirror_status
from billhook.models import Bucket, BusinessOfCurrency, BusinessQuery, PeriodName
from billhook.reports import setup, timelines
from billhook.reports.business import business
from billhook.reports.periods import period_of
from billhook.settings import ENVIRONMENTS, Environment

_BUCKETS: tuple[tuple[Bucket, int, int], ...] = (
    ("day", 1, 92),
    ("week", 14, 366),
    ("month", 60, 366),
)
"""The parts of a period to choose from, and the least and most days of such a period."""
_FAILING = 3
"""Failing events that are shown with their reason."""


async def enter(visit: Visit) -> Response:
    """`/dashboard`: redirect to the environment that has a Stripe key, live before test, if the
    visitor may see it."""
    live = await visit.services.connections.get("live")
    environment: Environment = "live" if live.masked_key else "test"
    allowed = visit.session.grant.environments if visit.session is not None else ENVIRONMENTS
    if environment not in allowed:
        environment = allowed[0]
    return RedirectResponse(f"{visit.root}/{environment}", 303)


async def show(visit: Visit) -> Response:
    """The page."""
    services, environment = visit.services, visit.environment
    parameters, now = visit.request.query_params, datetime.now(UTC)
    period = _period(parameters.get("period"))
    query = BusinessQuery(period=period, bucket=_bucket(parameters.get("bucket"), period, now))
    found, connection, mirror, tables, progress, failing = await asyncio.gather(
        business(services.database, environment, query, now),
        services.connections.get(environment),
        mirror_status(services.database, environment),
        session_tables(services.database),
        setup.progress(services.database, environment),
        timelines.failing(services.database, environment, most=_FAILING),
    )
    wanted = parameters.get("currency")
    shown = next(
        (each for each in found.currencies if each.currency == wanted),
        found.currencies[0] if found.currencies else None,
    )
    steps = first_steps.steps(connection, tables, progress)
    return visit.show(
        "overview.html",
        period=period,
        periods=figures.PERIODS,
        found=found,
        shown=shown,
        payments=figures.of_payments(found, shown) if shown else [],
        recurring=figures.of_subscriptions(found, shown, now) if shown else [],
        customers=figures.of_customers(found),
        movements=figures.movements(found, shown) if shown else [],
        buckets=_buckets(found.since, found.until),
        revenue=_chart(chart.revenue, shown),
        mrr=_chart(chart.recurring, shown),
        connection=connection,
        mirror=mirror,
        failing=failing,
        items=attention.items(services.settings, connection, mirror, tables, is_new=bool(steps)),
        is_quiet=not steps and mirror.lag_seconds is not None,
        steps=steps,
    )


def _period(wanted: str | None) -> PeriodName:
    return cast(PeriodName, wanted) if wanted in figures.PERIODS else "30d"


def _bucket(wanted: str | None, period: PeriodName, now: datetime) -> Bucket | None:
    """The length of the parts of a chart, if it is one to choose."""
    days = period_of(period, now.date()).now
    return wanted if wanted in _buckets(days.since, days.until) else None


def _buckets(since: date, until: date) -> list[Bucket]:
    """Those of which a chart shows a readable number."""
    days = (until - since).days + 1
    return [name for name, least, most in _BUCKETS if least <= days <= most]


def _chart(draw: Callable[..., chart.Chart], of: BusinessOfCurrency | None) -> chart.Chart | None:
    return draw(of.buckets, of.previous_buckets, of.currency) if of is not None else None
