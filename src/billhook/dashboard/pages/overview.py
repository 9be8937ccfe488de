"""The first page: figures, and what needs attention."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from starlette.responses import RedirectResponse, Response

from billhook.access.policies import session_tables
from billhook.dashboard import attention, chart
from billhook.dashboard.visit import Visit
from billhook.mirror.status import mirror_status
from billhook.reports import timelines
from billhook.reports.overview import overview
from billhook.settings import ENVIRONMENTS, Environment

PERIODS = (7, 30, 90, 365)
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
    days = _days(visit.request.query_params.get("days"))
    figures, connection, mirror, tables, failing = await asyncio.gather(
        overview(services.database, environment, days, datetime.now(UTC).date()),
        services.connections.get(environment),
        mirror_status(services.database, environment),
        session_tables(services.database),
        timelines.failing(services.database, environment, most=_FAILING),
    )
    wanted = visit.request.query_params.get("currency")
    shown = next(
        (each for each in figures.currencies if each.currency == wanted),
        figures.currencies[0] if figures.currencies else None,
    )
    return visit.show(
        "overview.html",
        days=days,
        periods=PERIODS,
        figures=figures,
        shown=shown,
        chart=chart.bars(shown) if shown else None,
        connection=connection,
        mirror=mirror,
        failing=failing,
        items=attention.items(services.settings, connection, mirror, tables),
    )


def _days(wanted: str | None) -> int:
    return next((each for each in PERIODS if str(each) == wanted), 30)
