"""What signed-in users read and change of their own: invoices, payment methods, subscriptions. The
policies of the tables decide."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.access.auth import Caller, signed_in, user_behind
from billhook.access.permissions import PAYMENT_METHOD, changes
from billhook.checkout import payment_methods
from billhook.http.body import read_json_or
from billhook.http.openapi import body_of, errors
from billhook.http.routes import (
    NO_QUERY,
    AdminRoute,
    PathId,
    User,
    UserOrAdminKey,
    answer,
    page_headers,
)
from billhook.models import (
    LISTS,
    ChangePaymentMethod,
    MirroredList,
    OwnQuery,
    PaymentMethodResponse,
)
from billhook.postgres.own_rows import UsersConnections
from billhook.reports import lists
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}", tags=["Runtime"], route_class=AdminRoute
)


def _add(of: MirroredList) -> None:
    """The list of one subject's objects of a kind."""
    table = f"payments.{of.of.table}"

    async def own(
        environment: Environment,
        caller: User,
        request: Request,
        services: ServicesOf,
        query: Annotated[OwnQuery, Query()],
    ) -> Response:
        as_caller = UsersConnections(
            services.database, signed_in(caller).database_role, caller.claims, table
        )
        page = await lists.mirrored(as_caller, environment, of, query.of(of.query))
        answered = of.page.model_validate({of.name: page.rows})
        return answer(answered, headers=page_headers(request, page))

    router.add_api_route(
        f"/my/{of.route}",
        own,
        methods=["GET"],
        name=f"own {of.name}",
        description=f"{of.of.listed.about} Those of one subject, as far as the SELECT policies of "
        f"`{table}` let the signed-in user see them. The newest come first.",
        response_model=of.page,
        responses=errors(400, 401, 403, 503),
    )


for _each in LISTS.values():
    if _each.of.listed.users_read:
        _add(_each)


@router.post(
    "/payment-methods/{payment_method_id}/default",
    dependencies=NO_QUERY,
    response_model=PaymentMethodResponse,
    responses=errors(400, 401, 402, 403, 404, 409, 413, 429, 502, 503),
    openapi_extra=body_of(ChangePaymentMethod, required=False),
)
@changes("payment_method.make_default", target="payment_method_id")
async def make_default(
    environment: Environment,
    payment_method_id: PathId,
    sender: UserOrAdminKey,
    request: Request,
    services: ServicesOf,
) -> Response:
    """Make this the payment method that Stripe charges, unless a subscription has its own. The
    UPDATE policies of `payments.stripe_payment_methods` apply to signed-in users, but not to
    administrators.
    """
    caller = await _caller(request, sender)
    changed = await payment_methods.make_default(
        services.database, services.gateway, environment, payment_method_id, caller
    )
    return answer(PaymentMethodResponse(payment_method=changed))


@router.post(
    "/payment-methods/{payment_method_id}/detach",
    dependencies=NO_QUERY,
    response_model=PaymentMethodResponse,
    responses=errors(400, 401, 402, 403, 404, 409, 413, 429, 502, 503),
    openapi_extra=body_of(ChangePaymentMethod, required=False),
)
@changes("payment_method.detach", target="payment_method_id", row=PAYMENT_METHOD)
async def detach(
    environment: Environment,
    payment_method_id: PathId,
    sender: UserOrAdminKey,
    request: Request,
    services: ServicesOf,
) -> Response:
    """Remove a saved payment method from its customer. It can't be attached again. The same
    policies apply as for `default`."""
    caller = await _caller(request, sender)
    removed = await payment_methods.detach(
        services.database, services.gateway, environment, payment_method_id, caller
    )
    return answer(PaymentMethodResponse(payment_method=removed))


async def _caller(request: Request, sender: Caller) -> Caller | None:
    """As whom to act; None for an administrator."""
    signed_in(sender)  # rejected before the body is read
    order = await read_json_or(request, ChangePaymentMethod())
    return user_behind(sender, order.act_as)
