"""Checkout and portal: called by the app's frontend (contract §3.1)."""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Request, Response

from billhook.checkout import create_checkout_session
from billhook.http.body import read_json
from billhook.http.services import ServicesOf
from billhook.models import (
    CheckoutSessionResponse,
    CreateCheckoutSession,
    CreateCustomerPortalSession,
    CustomerPortalSessionResponse,
    ErrorBody,
    WireModel,
)
from billhook.portal import create_portal_session
from billhook.settings import Environment

router = APIRouter(prefix="/api/payments/stripe/{environment}", tags=["Runtime"])

_ERRORS: dict[int | str, dict[str, object]] = {
    400: {"model": ErrorBody, "description": "The request is wrong, or no Stripe key is set."},
    401: {"model": ErrorBody, "description": "No valid user token or anonymous key."},
    402: {"model": ErrorBody, "description": "The card was declined."},
    403: {"model": ErrorBody, "description": "Row-level security refuses this subject."},
    404: {"model": ErrorBody, "description": "Not found."},
    409: {"model": ErrorBody, "description": "The idempotency key was used for something else."},
    413: {"model": ErrorBody, "description": "The body is too large."},
    429: {"model": ErrorBody, "description": "Stripe limits the rate."},
    502: {"model": ErrorBody, "description": "Stripe gave no answer."},
    503: {"model": ErrorBody, "description": "The database is away; try again."},
}


def _body(model: type[WireModel]) -> dict[str, object]:
    """The body's place in the OpenAPI document; `billhook.http.docs` adds the schema itself."""
    reference = {"$ref": f"#/components/schemas/{model.__name__}"}
    return {
        "requestBody": {"required": True, "content": {"application/json": {"schema": reference}}}
    }


@router.post(
    "/checkout-sessions",
    status_code=201,
    summary="Create a Checkout Session",
    response_model=CheckoutSessionResponse,
    responses=_ERRORS,
    openapi_extra=_body(CreateCheckoutSession),
)
async def checkout(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Write the session row as the caller, create the session at Stripe, and return it with the
    address of its payment page. Row-level security decides who may bill which subject."""
    caller = await services.auth.user(request)
    order = await read_json(request, CreateCheckoutSession)
    session = await create_checkout_session(
        services.database, services.gateway, environment, order, caller, datetime.now(UTC)
    )
    return _created(CheckoutSessionResponse(checkout_session=session))


@router.post(
    "/customer-portal-sessions",
    status_code=201,
    summary="Create a Billing Portal Session",
    response_model=CustomerPortalSessionResponse,
    responses=_ERRORS,
    openapi_extra=_body(CreateCustomerPortalSession),
)
async def portal(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Open Stripe's customer portal for a subject that has a customer. Signed-in users only."""
    caller = await services.auth.user(request)
    order = await read_json(request, CreateCustomerPortalSession)
    session = await create_portal_session(
        services.database, services.gateway, environment, order, caller
    )
    return _created(CustomerPortalSessionResponse(customer_portal_session=session))


def _created(answer: WireModel) -> Response:
    return Response(answer.wire(), status_code=201, media_type="application/json")
