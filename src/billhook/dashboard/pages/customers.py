"""Customers, and one customer with everything that is theirs."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from starlette.responses import Response

from billhook.dashboard.pages.exports import exported, text, time
from billhook.dashboard.rendering import COUNTED
from billhook.dashboard.visit import Visit
from billhook.models import (
    LISTS,
    Customer,
    CustomersQuery,
    SubscriptionsQuery,
    TransactionsQuery,
)
from billhook.money import decimal_text
from billhook.reports import lists, timelines

_LATEST = 20
_INVOICES = LISTS["invoices"]
_COLUMNS = (
    "id", "email", "name", "phone", "country", "created", "payments", "last_payment", "spent",
    "currency", "card", "deleted",
)  # fmt: skip


async def listing(visit: Visit) -> Response:
    """Customers with their totals."""
    query = visit.query(CustomersQuery)
    page = await lists.customers(
        visit.services.database, visit.environment, query, count_to=COUNTED
    )
    return visit.show("customers.html", query=query, page=page)


async def show(visit: Visit) -> Response:
    """One customer."""
    database, environment = visit.services.database, visit.environment
    customer_id = visit.request.path_params["customer"]
    customer = await lists.customer(database, environment, customer_id)
    subscriptions, payments, subjects, invoices, failing = await asyncio.gather(
        lists.subscriptions(
            database, environment, SubscriptionsQuery(customer=customer_id, limit=_LATEST)
        ),
        lists.payments(
            database, environment, TransactionsQuery(customer=customer_id, limit=_LATEST)
        ),
        lists.subjects_of(database, environment, customer_id),
        lists.mirrored(
            database,
            environment,
            _INVOICES,
            _INVOICES.query.model_validate({"customer": customer_id, "limit": _LATEST}),
        ),
        timelines.failing(database, environment, customer_id),
    )
    payment_labels, labels = await asyncio.gather(
        lists.payment_labels(database, environment, payments.rows),
        lists.subscription_labels(database, environment, subscriptions.rows),
    )
    steps = await timelines.of_customer(
        database,
        environment,
        customer_id,
        created_at=customer.provider_created_at,
        payments=list(zip(payments.rows, payment_labels, strict=True)),
        subscriptions=[(s, labels[s.subscription_id]) for s in subscriptions.rows],
        invoices=invoices.rows,
    )
    return visit.show(
        "customer.html",
        customer=customer,
        subscriptions=subscriptions,
        labels=labels,
        payments=payments,
        payment_labels=payment_labels,
        invoices=invoices,
        subjects=subjects,
        steps=steps[:60],
        failing=failing,
    )


async def export(visit: Visit) -> Response:
    """The complete list as CSV."""
    database, environment = visit.services.database, visit.environment

    async def read(part: CustomersQuery) -> lists.Page[Customer]:
        return await lists.customers(database, environment, part)

    return exported(visit, "customers", visit.query(CustomersQuery), _COLUMNS, read, _lines)


async def _lines(rows: Sequence[Customer]) -> Iterable[list[str]]:
    return map(_line, rows)


def _line(c: Customer) -> list[str]:
    card = f"{c.payment_method_brand or 'card'} {c.payment_method_last4}"
    return [
        *map(text, (c.provider_customer_id, c.email, c.name, c.phone, c.country_code)),
        time(c.provider_created_at),
        str(c.payments_count),
        time(c.last_payment_at),
        decimal_text(c.total_spend, c.total_spend_currency),
        (c.total_spend_currency or "").upper(),
        text(card) if c.payment_method_last4 else "",
        "yes" if c.deleted else "",
    ]
