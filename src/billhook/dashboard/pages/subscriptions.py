"""Subscriptions: who pays how much for what, and when next; one subscription with its invoices."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import get_args

from starlette.responses import Response

from billhook.dashboard.pages.exports import exported, text, time
from billhook.dashboard.rendering import COUNTED
from billhook.dashboard.visit import Visit
from billhook.errors import PaymentNotFound
from billhook.models import LISTS, Subscription, SubscriptionsQuery, TransactionsQuery
from billhook.models.queries import SubscriptionStatus
from billhook.money import decimal_text
from billhook.reports import lists, timelines

_LATEST = 12
_INVOICES = LISTS["invoices"]
_COLUMNS = (
    "id", "customer", "name", "email", "product", "quantity", "status", "monthly_value",
    "currency", "period_start", "period_end", "ends_at", "trial_end", "subject_type",
    "subject_id", "created",
)  # fmt: skip


async def listing(visit: Visit) -> Response:
    """Subscriptions, last changed first or sorted according to the query."""
    query = visit.query(SubscriptionsQuery)
    database, environment = visit.services.database, visit.environment
    page = await lists.subscriptions(database, environment, query, count_to=COUNTED)
    return visit.show(
        "subscriptions.html",
        query=query,
        page=page,
        labels=await lists.subscription_labels(database, environment, page.rows),
        statuses=get_args(SubscriptionStatus),
        presets=visit.presets(
            ("All", {}),
            ("Active", {"status": "active"}),
            ("In trial", {"status": "trialing"}),
            ("Past due", {"status": "past_due"}),
            ("Canceled", {"status": "canceled"}),
            ("Renewing next", {"status": "active", "order": "renewal"}),
        ),
    )


async def one(visit: Visit) -> Subscription:
    """The subscription in the path.

    Raises:
        PaymentNotFound: the mirror does not have it.
    """
    subscription_id = visit.request.path_params["subscription"]
    found = await lists.subscription(visit.services.database, visit.environment, subscription_id)
    if found is None:
        raise PaymentNotFound(
            f"There is no subscription {subscription_id} in the {visit.environment} environment.",
            next_actions="Does it belong to the other environment? If Stripe has it, sync first.",
        )
    return found


async def show(visit: Visit) -> Response:
    """One subscription."""
    database, environment = visit.services.database, visit.environment
    found = await one(visit)
    subscription_id = found.subscription_id
    labels, invoices, payments, timeline = await asyncio.gather(
        lists.subscription_labels(database, environment, [found]),
        lists.mirrored(
            database,
            environment,
            _INVOICES,
            _INVOICES.query.model_validate({"subscription": subscription_id, "limit": _LATEST}),
        ),
        lists.payments(
            database, environment, TransactionsQuery(search=subscription_id, limit=_LATEST)
        ),
        timelines.of_object(database, environment, "subscription", subscription_id),
    )
    return visit.show(
        "subscription.html",
        subscription=found,
        label=labels[subscription_id],
        invoices=invoices,
        payments=payments,
        payment_labels=await lists.payment_labels(database, environment, payments.rows),
        timeline=timeline,
    )


async def export(visit: Visit) -> Response:
    """The complete list as CSV: one line per subscription."""
    database, environment = visit.services.database, visit.environment

    async def read(part: SubscriptionsQuery) -> lists.Page[Subscription]:
        return await lists.subscriptions(database, environment, part)

    async def lines(rows: Sequence[Subscription]) -> Iterable[list[str]]:
        labels = await lists.subscription_labels(database, environment, rows)
        return [_line(each, labels[each.subscription_id]) for each in rows]

    return exported(visit, "subscriptions", visit.query(SubscriptionsQuery), _COLUMNS, read, lines)


def _line(s: Subscription, label: lists.SubscriptionLabel) -> list[str]:
    return [
        *map(text, (s.subscription_id, s.customer_id, label.customer.name, label.customer.email)),
        text(label.product),
        " + ".join(str(1 if i.quantity is None else i.quantity) for i in label.items),
        text(s.status),
        decimal_text(label.monthly, label.currency),
        (label.currency or "").upper(),
        time(s.current_period_start),
        time(s.current_period_end),
        time(s.ends_at),
        time(s.trial_end),
        text(s.subject_type),
        text(s.subject_id),
        time(s.created_at),
    ]
