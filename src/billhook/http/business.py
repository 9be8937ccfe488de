"""The figures of a business, and the movements of its MRR (beyond the contract)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.http.openapi import errors
from billhook.http.routes import ADMIN, answer, page_headers
from billhook.models import BusinessQuery, BusinessResponse, MovementsQuery, MrrMovements
from billhook.reports import lists
from billhook.reports.business import business
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}", tags=["Overview"], dependencies=ADMIN
)
_ERRORS = errors(400, 401, 403, 503)


@router.get("/business", response_model=BusinessResponse, responses=_ERRORS)
async def show(
    environment: Environment, services: ServicesOf, query: Annotated[BusinessQuery, Query()]
) -> Response:
    """Get the figures of the business per currency: payments, disputes, MRR and its movements,
    subscribers, churn and renewals, compared with the previous period."""
    found = await business(services.database, environment, query, datetime.now(UTC))
    return answer(BusinessResponse(business=found))


@router.get("/mrr-movements", response_model=MrrMovements, responses=_ERRORS)
async def movements(
    environment: Environment,
    request: Request,
    services: ServicesOf,
    query: Annotated[MovementsQuery, Query()],
) -> Response:
    """List how the MRR of customers changed, by day, newest first."""
    page = await lists.movements(services.database, environment, query)
    return answer(MrrMovements(mrr_movements=page.rows), headers=page_headers(request, page))
