"""Checkout and portal: called by the app's frontend (contract section 3.1).

The routes read bodies themselves, because the caller is authenticated first.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from fastapi import APIRouter, Query, Request, Response

from billhook.access.auth import Caller, acting_as, is_administrator, signed_in
from billhook.checkout.options import refuse_server_only
from billhook.checkout.portal import create_portal_session
from billhook.checkout.sessions import create_checkout_session
from billhook.http.body import read_decoded
from billhook.http.openapi import body_of, errors
from billhook.http.routes import NO_QUERY, PathId, User, UserOrAdminKey, answer
from billhook.models import (
    AwaitQuery,
    CheckoutSessionResponse,
    CreateCheckoutSession,
    CreateCustomerPortalSession,
    CreatedCheckoutSessionResponse,
    CustomerPortalSessionResponse,
    WireModel,
    parse,
)
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(prefix="/api/payments/stripe/{environment}", tags=["Runtime"])

AnOrder = TypeVar("AnOrder", CreateCheckoutSession, CreateCustomerPortalSession)


@router.post(
    "/checkout-sessions",
    status_code=201,
    dependencies=NO_QUERY,
    summary="Create a Checkout Session",
    response_model=CreatedCheckoutSessionResponse,
    responses=errors(400, 401, 402, 403, 404, 409, 413, 429, 500, 502, 503),
    openapi_extra=body_of(CreateCheckoutSession),
)
async def checkout(
    environment: Environment, sender: UserOrAdminKey, request: Request, services: ServicesOf
) -> Response:
    """Create a Checkout Session as the signed-in user or as a guest, or, with an admin key, as the
    user in `actAs`.

    The row is inserted into `payments.stripe_checkout_sessions` with the caller's role and claims,
    so that table's policies decide who may bill which subject. If you repeat a request with the
    same `idempotencyKey`, it returns the earlier session as long as that can still be paid.

    Options that determine what is paid and when require an admin key or an `offer`.
    """
    order, caller = await _order(request, sender, CreateCheckoutSession)
    if not is_administrator(sender):
        refuse_server_only(order)
    session = await create_checkout_session(
        services.database, services.gateway, environment, order, caller, datetime.now(UTC)
    )
    return _created(CreatedCheckoutSessionResponse(checkout_session=session))


@router.get(
    "/checkout-sessions/{session_id}",
    summary="Retrieve a Checkout Session, or wait for its result",
    response_model=CheckoutSessionResponse,
    responses=errors(400, 401, 403, 404, 503),
)
async def checkout_session(
    environment: Environment,
    session_id: PathId,
    caller: User,
    services: ServicesOf,
    query: Annotated[AwaitQuery, Query()],
) -> Response:
    """Get the current state of one of the caller's checkouts. With `wait`, the response is sent as
    soon as the checkout has ended, or after that many seconds (at most 30). `session_id` is the
    row's id, or Stripe's id from the success URL. The row is read with the caller's role and
    claims, so the SELECT policies of `payments.stripe_checkout_sessions` apply.
    """
    session = await services.checkout_results.read(environment, session_id, caller, query.wait)
    return answer(CheckoutSessionResponse(checkout_session=session))


@router.post(
    "/customer-portal-sessions",
    status_code=201,
    dependencies=NO_QUERY,
    summary="Create a customer portal session",
    response_model=CustomerPortalSessionResponse,
    responses=errors(400, 401, 403, 404, 409, 413, 429, 500, 502, 503),
    openapi_extra=body_of(CreateCustomerPortalSession),
)
async def portal(
    environment: Environment, sender: UserOrAdminKey, request: Request, services: ServicesOf
) -> Response:
    """Create a customer portal session for a subject that has a Stripe customer, as the signed-in
    user or, with an admin key, as the user in `actAs`.

    The row is inserted into `payments.stripe_customer_portal_sessions` with the caller's role and
    claims, so that table's policies decide.
    """
    signed_in(sender)
    order, caller = await _order(request, sender, CreateCustomerPortalSession)
    session = await create_portal_session(
        services.database, services.gateway, environment, order, caller
    )
    return _created(CustomerPortalSessionResponse(customer_portal_session=session))


async def _order(request: Request, sender: Caller, model: type[AnOrder]) -> tuple[AnOrder, Caller]:
    """The body, and the caller to act as."""
    found = await read_decoded(request)
    if not (isinstance(found, dict) and "actAs" in found):
        acting_as(sender, None)  # rejected before the body is validated
    order = parse(model, found)
    return order, acting_as(sender, order.act_as)


def _created(session: WireModel) -> Response:
    return answer(session, 201)
