"""The first page: the figures of the business, and what needs attention."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import cast

from starlette.responses import RedirectResponse, Response

from billhook.access.policies import session_tables
from billhook.dashboard import attention, chart, figures, first_steps
from billhook.dashboard.visit import Visit
from billhook.mirror.status import mirror_status
from billhook.models import BusinessQuery, PeriodName
from billhook.reports import setup, timelines
from billhook.reports.business import business
from billhook.settings import ENVIRONMENTS, Environment

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
    period, now = _period(visit.request.query_params.get("period")), datetime.now(UTC)
    found, connection, mirror, tables, progress, failing = await asyncio.gather(
        business(services.database, environment, BusinessQuery(period=period), now),
        services.connections.get(environment),
        mirror_status(services.database, environment),
        session_tables(services.database),
        setup.progress(services.database, environment),
        timelines.failing(services.database, environment, most=_FAILING),
    )
    wanted = visit.request.query_params.get("currency")
    shown = next(
        (each for each in found.currencies if each.currency == wanted),
        found.currencies[0] if found.currencies else None,
    )
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
        chart=chart.bars(shown.buckets, shown.currency) if shown else None,
        connection=connection,
        mirror=mirror,
        failing=failing,
        items=attention.items(services.settings, connection, mirror),
        steps=first_steps.steps(connection, tables, progress),
    )


def _period(wanted: str | None) -> PeriodName:
    return cast(PeriodName, wanted) if wanted in figures.PERIODS else "30d"
