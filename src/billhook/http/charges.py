"""Charges of a saved payment method, by the app's server."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from billhook.access.permissions import changes
from billhook.checkout.charges import create_charge
from billhook.http.body import read_json
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, answer
from billhook.models import ChargeResponse, CreateCharge
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}/charges",
    tags=["Refunds and charges"],
    dependencies=[*ADMIN, *NO_QUERY],
    route_class=AdminRoute,
)


@router.post(
    "",
    status_code=201,
    summary="Charge a saved payment method",
    response_model=ChargeResponse,
    responses=errors(400, 401, 402, 403, 404, 409, 413, 429, 502, 503),
    openapi_extra=body_of(CreateCharge),
)
@changes("charge.create", made=("charge", "id"))
async def create(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Charge a saved payment method while the customer is not present, with a PaymentIntent that is
    confirmed off session.

    If the bank requires authentication, the status is `requires_action`: send the customer to
    `confirmUrl`. A decline is a 402 with `declineCode`. `payments.transactions` shows the result.
    Repeating the request with its `idempotencyKey` never charges twice; it returns the current
    state.
    """
    order = await read_json(request, CreateCharge)
    made = await create_charge(services.database, services.gateway, environment, order)
    return answer(ChargeResponse(charge=made), 201)
