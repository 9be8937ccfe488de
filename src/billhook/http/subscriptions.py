"""Changes of subscriptions, called by the app's frontend with a user's token, or by its backend.

The routes read bodies themselves, because the caller is authenticated first.
"""

from __future__ import annotations

from typing import TypeVar

from fastapi import APIRouter, Request, Response

from billhook.access.auth import Caller, is_administrator, signed_in, user_behind
from billhook.access.permissions import SUBSCRIPTION, changes, reads
from billhook.checkout import subscriptions
from billhook.checkout.subscriptions import Target
from billhook.http.body import read_decoded
from billhook.http.openapi import body_of, errors
from billhook.http.routes import NO_QUERY, AdminRoute, PathId, UserOrAdminKey, answer
from billhook.models import (
    CancelSubscription,
    ChangeRequest,
    ChangeSubscription,
    PauseSubscription,
    ResumeSubscription,
    SubscriptionPreviewResponse,
    SubscriptionResponse,
    parse,
)
from billhook.services import Services, ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}/subscriptions/{subscription_id}",
    tags=["Subscriptions"],
    dependencies=NO_QUERY,
    route_class=AdminRoute,
)
_ERRORS = errors(400, 401, 402, 403, 404, 409, 413, 429, 500, 502, 503)

Order = TypeVar("Order", bound=ChangeRequest)


@router.post(
    "/preview",
    summary="Preview the cost of a change",
    response_model=SubscriptionPreviewResponse,
    responses=errors(400, 401, 403, 404, 413, 429, 500, 502, 503),
    openapi_extra=body_of(ChangeSubscription),
)
@reads
async def preview(
    environment: Environment,
    subscription_id: PathId,
    sender: UserOrAdminKey,
    request: Request,
    services: ServicesOf,
) -> Response:
    """Preview what a new price or quantity would cost: the prorations, the amount due now, and the
    next invoice. Nothing is changed. To bill exactly these amounts, send the same body to
    `change`, with the `prorationDate` from this response.
    """
    order, target = await _order(
        request, services, environment, subscription_id, sender, ChangeSubscription
    )
    found = await subscriptions.preview(target, order)
    return answer(SubscriptionPreviewResponse(preview=found))


@router.post(
    "/change",
    summary="Change the price or quantity",
    response_model=SubscriptionResponse,
    responses=_ERRORS,
    openapi_extra=body_of(ChangeSubscription),
)
@changes("subscription.change", target="subscription_id", row=SUBSCRIPTION)
async def change(
    environment: Environment,
    subscription_id: PathId,
    sender: UserOrAdminKey,
    request: Request,
    services: ServicesOf,
) -> Response:
    """Change the price, the quantity, or both, of one item. The response and the mirror show
    the new state. If the customer must complete a payment, `paymentAction` shows how and where.

    The policies of `payments.stripe_subscriptions` decide which users may do this. If a user
    can't see the row, the response is a 404. If no UPDATE policy allows the change, it is a 403.
    """
    order, target = await _order(
        request, services, environment, subscription_id, sender, ChangeSubscription
    )
    return answer(await subscriptions.change(target, order))


@router.post(
    "/cancel",
    summary="Cancel at the end of the period, or now",
    response_model=SubscriptionResponse,
    responses=_ERRORS,
    openapi_extra=body_of(CancelSubscription),
)
@changes("subscription.cancel", target="subscription_id", row=SUBSCRIPTION)
async def cancel(
    environment: Environment,
    subscription_id: PathId,
    sender: UserOrAdminKey,
    request: Request,
    services: ServicesOf,
) -> Response:
    """Cancel at the end of the paid period, which `resume` can undo, or immediately, which is final
    and refunds nothing. Safe to repeat."""
    order, target = await _order(
        request, services, environment, subscription_id, sender, CancelSubscription
    )
    return answer(await subscriptions.cancel(target, order))


@router.post(
    "/resume",
    summary="Undo a scheduled cancellation or a pause",
    response_model=SubscriptionResponse,
    responses=_ERRORS,
    openapi_extra=body_of(ResumeSubscription),
)
@changes("subscription.resume", target="subscription_id", row=SUBSCRIPTION)
async def resume(
    environment: Environment,
    subscription_id: PathId,
    sender: UserOrAdminKey,
    request: Request,
    services: ServicesOf,
) -> Response:
    """Undo whatever keeps the subscription from renewing and being charged: remove a scheduled
    cancellation, resume paused collection, and start a new period, charged now, if Stripe paused
    the subscription because its trial ended without a payment method. Safe to repeat."""
    order, target = await _order(
        request, services, environment, subscription_id, sender, ResumeSubscription
    )
    return answer(await subscriptions.resume(target, order))


@router.post(
    "/pause",
    summary="Pause payment collection",
    response_model=SubscriptionResponse,
    responses=_ERRORS,
    openapi_extra=body_of(PauseSubscription),
)
@changes("subscription.pause", target="subscription_id", row=SUBSCRIPTION)
async def pause(
    environment: Environment,
    subscription_id: PathId,
    sender: UserOrAdminKey,
    request: Request,
    services: ServicesOf,
) -> Response:
    """Pause payment collection until `resumesAt` or until you resume it. The status stays the same,
    so decide in your app what a paused subscription gives access to. Safe to repeat."""
    order, target = await _order(
        request, services, environment, subscription_id, sender, PauseSubscription
    )
    return answer(await subscriptions.pause(target, order))


async def _order(
    request: Request,
    services: Services,
    environment: Environment,
    subscription_id: str,
    sender: Caller,
    model: type[Order],
) -> tuple[Order, Target]:
    """The body, and the subscription that it is about."""
    signed_in(sender)  # rejected before the body is read
    order = parse(model, await read_decoded(request))
    target = Target(
        services.database,
        services.gateway,
        environment,
        subscription_id,
        user_behind(sender, order.act_as),
        trusted=is_administrator(sender),
    )
    return order, target
