"""Customers, and one customer's subscriptions, payments and subjects."""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from billhook.dashboard.visit import Visit
from billhook.models import CustomersQuery, SubscriptionsQuery, TransactionsQuery
from billhook.reports import lists

_LATEST = 20


async def listing(visit: Visit) -> Response:
    """Customers with their totals."""
    query = visit.query(CustomersQuery)
    page = await lists.customers(visit.services.database, visit.environment, query)
    return visit.show("customers.html", query=query, page=page)


async def show(visit: Visit) -> Response:
    """One customer."""
    database, environment = visit.services.database, visit.environment
    customer_id = visit.request.path_params["customer"]
    customer = await lists.customer(database, environment, customer_id)
    subscriptions, payments, subjects = await asyncio.gather(
        lists.subscriptions(
            database, environment, SubscriptionsQuery(customer=customer_id, limit=_LATEST)
        ),
        lists.payments(
            database, environment, TransactionsQuery(customer=customer_id, limit=_LATEST)
        ),
        lists.subjects_of(database, environment, customer_id),
    )
    return visit.show(
        "customer.html",
        customer=customer,
        subscriptions=subscriptions,
        payments=payments,
        subjects=subjects,
    )
