"""Transactions, subscriptions, customers (contract section 3.2), and every other mirrored kind."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.http.openapi import errors
from billhook.http.routes import ADMIN, answer, page_headers
from billhook.models import (
    LISTS,
    Customers,
    CustomersQuery,
    MirroredList,
    MirroredQuery,
    Subscriptions,
    SubscriptionsQuery,
    Transactions,
    TransactionsQuery,
)
from billhook.reports import lists
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(prefix="/api/payments/stripe/{environment}", tags=["Lists"], dependencies=ADMIN)
_ERRORS = errors(400, 401, 403, 503)


@router.get(
    "/transactions",
    response_model=Transactions,
    responses=_ERRORS,
)
async def transactions(
    environment: Environment,
    request: Request,
    services: ServicesOf,
    query: Annotated[TransactionsQuery, Query()],
) -> Response:
    """List payments and refunds, newest first. The `Link` header contains the next page."""
    page = await lists.transactions(services.database, environment, query)
    return answer(Transactions(transactions=page.rows), headers=page_headers(request, page))


@router.get(
    "/subscriptions",
    response_model=Subscriptions,
    responses=_ERRORS,
)
async def subscriptions(
    environment: Environment,
    request: Request,
    services: ServicesOf,
    query: Annotated[SubscriptionsQuery, Query()],
) -> Response:
    """List subscriptions with their items, most recently changed first."""
    page = await lists.subscriptions(services.database, environment, query)
    return answer(Subscriptions(subscriptions=page.rows), headers=page_headers(request, page))


@router.get(
    "/customers",
    response_model=Customers,
    responses=_ERRORS,
)
async def customers(
    environment: Environment,
    request: Request,
    services: ServicesOf,
    query: Annotated[CustomersQuery, Query()],
) -> Response:
    """List customers with their total spend, sorted by email, name or id; deleted ones last."""
    page = await lists.customers(services.database, environment, query)
    return answer(Customers(customers=page.rows), headers=page_headers(request, page))


def _add(of: MirroredList) -> None:
    """The route of a list that follows from its kind's declaration."""

    async def mirrored(
        environment: Environment, request: Request, services: ServicesOf, query: MirroredQuery
    ) -> Response:
        page = await lists.mirrored(services.database, environment, of, query)
        answered = of.page.model_validate({of.name: page.rows})
        return answer(answered, headers=page_headers(request, page))

    mirrored.__annotations__["query"] = Annotated[of.query, Query()]
    router.add_api_route(
        f"/{of.route}",
        mirrored,
        methods=["GET"],
        name=of.name,
        description=f"{of.of.listed.about} The newest come first.",
        response_model=of.page,
        responses=_ERRORS,
    )


for _each in LISTS.values():
    _add(_each)
