"""Figures over time (beyond the contract)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response

from billhook.http.openapi import errors
from billhook.http.routes import ADMIN, answer
from billhook.models import OverviewQuery, OverviewResponse
from billhook.reports.overview import overview
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}", tags=["Overview"], dependencies=ADMIN
)


@router.get(
    "/overview",
    response_model=OverviewResponse,
    responses=errors(400, 401, 403, 503),
)
async def show(
    environment: Environment, services: ServicesOf, query: Annotated[OverviewQuery, Query()]
) -> Response:
    """Get payments, refunds and failures per currency and UTC day, compared with the previous
    period, and the number of subscriptions by status."""
    today = datetime.now(UTC).date()
    return answer(
        OverviewResponse(overview=await overview(services.database, environment, query.days, today))
    )
