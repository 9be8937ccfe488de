"""Figures over time (beyond the contract)."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from billhook.http.admin import ADMIN, answer, query_of
from billhook.http.openapi import errors, query_parameters
from billhook.models import OverviewQuery, OverviewResponse
from billhook.overview import overview
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}", tags=["Overview"], dependencies=ADMIN
)


@router.get(
    "/overview",
    response_model=OverviewResponse,
    responses=errors(400, 401, 403, 503),
    openapi_extra=query_parameters(OverviewQuery),
)
async def show(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Payments, refunds and failures per currency and UTC day, with the previous period; and the
    number of subscriptions by status."""
    days = query_of(request, OverviewQuery).days
    today = datetime.now(UTC).date()
    return answer(
        OverviewResponse(overview=await overview(services.database, environment, days, today))
    )
