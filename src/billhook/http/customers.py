"""Which subjects existing customers pay for."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from billhook.access.permissions import changes
from billhook.http.body import read_json
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, answer
from billhook.mirror import assignments
from billhook.models import AssignCustomers, AssignedCustomers
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}/customers",
    tags=["Customers"],
    dependencies=[*ADMIN, *NO_QUERY],
    route_class=AdminRoute,
)


@router.post(
    "/assignments",
    response_model=AssignedCustomers,
    responses=errors(400, 401, 403, 409, 413, 503),
    openapi_extra=body_of(AssignCustomers),
)
@changes("customers.assign")
async def assign(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Specify which subjects customers pay for. An assignment counts like a completed checkout: the
    more recent of the two wins. Assignments that contradict a mapping are skipped and reported,
    unless `overwrite` is set."""
    order = await read_json(request, AssignCustomers)
    results = await assignments.assign(services.database, environment, order)
    return answer(AssignedCustomers(assignments=results))
