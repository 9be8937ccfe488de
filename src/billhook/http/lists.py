"""Transactions, subscriptions, customers (contract section 3.2), and every other mirrored kind."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from billhook import lists
from billhook.http.admin import ADMIN, answer, page_headers, query_of
from billhook.http.openapi import errors, query_parameters
from billhook.models import (
    LISTS,
    Customers,
    CustomersQuery,
    MirroredList,
    Subscriptions,
    SubscriptionsQuery,
    Transactions,
    TransactionsQuery,
)
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(prefix="/api/payments/stripe/{environment}", tags=["Lists"], dependencies=ADMIN)
_ERRORS = errors(400, 401, 403, 503)


@router.get(
    "/transactions",
    response_model=Transactions,
    responses=_ERRORS,
    openapi_extra=query_parameters(TransactionsQuery),
)
async def transactions(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Payments and refunds, newest first. The `Link` header has the next page."""
    query = query_of(request, TransactionsQuery)
    page = await lists.transactions(services.database, environment, query)
    return answer(Transactions(transactions=page.rows), headers=page_headers(request, page))


@router.get(
    "/subscriptions",
    response_model=Subscriptions,
    responses=_ERRORS,
    openapi_extra=query_parameters(SubscriptionsQuery),
)
async def subscriptions(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Subscriptions with their items, the last changed first."""
    query = query_of(request, SubscriptionsQuery)
    page = await lists.subscriptions(services.database, environment, query)
    return answer(Subscriptions(subscriptions=page.rows), headers=page_headers(request, page))


@router.get(
    "/customers",
    response_model=Customers,
    responses=_ERRORS,
    openapi_extra=query_parameters(CustomersQuery),
)
async def customers(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Customers with their total spend: deleted ones last, then by email, name or id."""
    query = query_of(request, CustomersQuery)
    page = await lists.customers(services.database, environment, query)
    return answer(Customers(customers=page.rows), headers=page_headers(request, page))


def _add(of: MirroredList) -> None:
    """The route of a list that follows from its kind's declaration."""

    async def mirrored(
        environment: Environment, request: Request, services: ServicesOf
    ) -> Response:
        query = query_of(request, of.query)
        page = await lists.mirrored(services.database, environment, of, query)
        answered = of.page.model_validate({of.name: page.rows})
        return answer(answered, headers=page_headers(request, page))

    router.add_api_route(
        f"/{of.route}",
        mirrored,
        methods=["GET"],
        name=of.name,
        description=f"{of.listed.about} The newest come first.",
        response_model=of.page,
        responses=_ERRORS,
        openapi_extra=query_parameters(of.query),
    )


for _each in LISTS.values():
    _add(_each)
