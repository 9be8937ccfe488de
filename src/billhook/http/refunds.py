"""Refunds: preview, create, read, cancel."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from billhook.access.permissions import changes, reads
from billhook.checkout import refunds
from billhook.http.body import read_json
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, PathId, answer
from billhook.models import CreateRefund, PreviewRefund, RefundPreviewResponse, RefundResponse
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}/refunds",
    tags=["Refunds and charges"],
    dependencies=[*ADMIN, *NO_QUERY],
    route_class=AdminRoute,
)
_ERRORS = errors(400, 401, 403, 404, 409, 413, 429, 502, 503)


@router.post(
    "",
    status_code=201,
    summary="Refund a payment",
    response_model=RefundResponse,
    responses=_ERRORS,
    openapi_extra=body_of(CreateRefund),
)
@changes("refund.create", role="support", made=("refund", "refundId"))
async def create(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Refund a payment: all that is left, a specific amount, or lines of its checkout or invoice.

    A request for more than what is left returns a 409. Unconfirmed refunds and lost disputes reduce
    what is left. The response and `payments.transactions` show the refund's state in Stripe,
    `pending` or `refunded`. Repeating the request with the same `idempotencyKey` refunds only once.
    Without a key, the same request within a minute counts as a repeat.
    """
    order = await read_json(request, CreateRefund)
    made = await refunds.create_refund(services.database, services.gateway, environment, order)
    return answer(made, 201)


@router.post(
    "/preview",
    summary="Preview a refund",
    response_model=RefundPreviewResponse,
    responses=_ERRORS,
    openapi_extra=body_of(PreviewRefund),
)
@reads
async def preview(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Preview what a refund would return, and what is left of the payment. Nothing is refunded.
    Returns a 409 if the refund would.
    """
    order = await read_json(request, PreviewRefund)
    found = await refunds.preview_refund(services.database, services.gateway, environment, order)
    return answer(RefundPreviewResponse(preview=found))


@router.get(
    "/{refund_id}",
    summary="Retrieve a refund",
    response_model=RefundResponse,
    responses=errors(400, 401, 403, 404, 503),
)
async def retrieve(environment: Environment, refund_id: PathId, services: ServicesOf) -> Response:
    """Get a refund and its payment from the mirror."""
    return answer(await refunds.read_refund(services.database, environment, refund_id))


@router.post(
    "/{refund_id}/cancel",
    summary="Cancel a refund",
    response_model=RefundResponse,
    responses=_ERRORS,
)
@changes("refund.cancel", role="support", target="refund_id")
async def cancel(environment: Environment, refund_id: PathId, services: ServicesOf) -> Response:
    """Cancel a refund that is waiting for the customer (`providerStatus` is `requires_action`).
    Stripe can't cancel other refunds; for those, the response is a 409."""
    found = await refunds.cancel_refund(services.database, services.gateway, environment, refund_id)
    return answer(found)
