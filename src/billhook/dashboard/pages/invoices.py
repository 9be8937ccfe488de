"""Invoices: the list, and one invoice with its lines, payments and Stripe's page and PDF."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from starlette.responses import Response

from billhook.dashboard.pages import presets
from billhook.dashboard.pages.exports import exported, text, time
from billhook.dashboard.rendering import COUNTED
from billhook.dashboard.visit import Visit
from billhook.models import LISTS, MirroredQuery, MirroredRow, TransactionsQuery
from billhook.money import decimal_text
from billhook.reports import lists, timelines

_INVOICES = LISTS["invoices"]
_COLUMNS = (
    "number", "status", "created", "customer", "name", "email", "total", "paid", "remaining",
    "currency", "reason", "due_date", "subscription", "id",
)  # fmt: skip


async def listing(visit: Visit) -> Response:
    """Invoices, newest first."""
    query = visit.query(_INVOICES.query)
    database, environment = visit.services.database, visit.environment
    page = await lists.mirrored(database, environment, _INVOICES, query, count_to=COUNTED)
    return visit.show(
        "invoices.html",
        page=page,
        names=await lists.customer_names(
            database, environment, [each.customer_id for each in page.rows]
        ),
        statuses=_INVOICES.of.listed.choices,
        presets=presets.by_time(
            visit, ("Open", {"status": "open"}), ("Uncollectible", {"status": "uncollectible"})
        ),
    )


async def show(visit: Visit) -> Response:
    """One invoice."""
    database, environment = visit.services.database, visit.environment
    invoice_id = visit.request.path_params["invoice"]
    found = await lists.mirrored_one(database, environment, _INVOICES, invoice_id)
    names, content, payments, timeline = await asyncio.gather(
        lists.customer_names(database, environment, [found.customer_id]),
        lists.invoice_content(database, environment, invoice_id),
        lists.payments(database, environment, TransactionsQuery(search=invoice_id, limit=20)),
        timelines.of_object(database, environment, "invoice", invoice_id),
    )
    return visit.show(
        "invoice.html",
        invoice=found,
        name=names.get(found.customer_id),
        content=content,
        payments=payments,
        payment_labels=await lists.payment_labels(database, environment, payments.rows),
        timeline=timeline,
    )


async def export(visit: Visit) -> Response:
    """The complete list as CSV."""
    database, environment = visit.services.database, visit.environment

    async def read(part: MirroredQuery) -> lists.Page[MirroredRow]:
        return await lists.mirrored(database, environment, _INVOICES, part)

    async def lines(rows: Sequence[MirroredRow]) -> Iterable[list[str]]:
        customers = [each.customer_id for each in rows]
        names = await lists.customer_names(database, environment, customers)
        return [_line(each, names.get(each.customer_id, lists.Name())) for each in rows]

    return exported(visit, "invoices", visit.query(_INVOICES.query), _COLUMNS, read, lines)


def _line(i: MirroredRow, customer: lists.Name) -> list[str]:
    return [
        text(i.number),
        text(i.status),
        time(i.provider_created_at or i.created_at),
        *map(text, (i.customer_id, customer.name, customer.email)),
        decimal_text(i.total, i.currency),
        decimal_text(i.amount_paid, i.currency),
        decimal_text(i.amount_remaining, i.currency),
        (i.currency or "").upper(),
        text(i.billing_reason),
        time(i.due_date),
        text(i.subscription_id),
        text(i.invoice_id),
    ]
