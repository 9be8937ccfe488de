"""Subscriptions: status, subject, period, items."""

from __future__ import annotations

from typing import get_args

from starlette.responses import Response

from billhook.dashboard.visit import Visit
from billhook.models import SubscriptionsQuery
from billhook.models.queries import SubscriptionStatus
from billhook.reports import lists


async def listing(visit: Visit) -> Response:
    """Subscriptions, last changed first or sorted according to the query."""
    query = visit.query(SubscriptionsQuery)
    page = await lists.subscriptions(visit.services.database, visit.environment, query)
    names = await lists.names_of(
        visit.services.database, visit.environment, [each.customer_id for each in page.rows]
    )
    statuses = get_args(SubscriptionStatus)
    return visit.show("subscriptions.html", query=query, page=page, names=names, statuses=statuses)
