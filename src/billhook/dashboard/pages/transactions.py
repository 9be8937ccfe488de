"""Transactions: payments with their refunds nested, a payment with all that happened to it, and all
of it as CSV."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import get_args

from starlette.responses import Response

from billhook.dashboard.pages import presets
from billhook.dashboard.pages.exports import exported, text, time
from billhook.dashboard.rendering import COUNTED
from billhook.dashboard.visit import Visit
from billhook.models import Transaction, TransactionsQuery
from billhook.models.queries import TransactionStatus, TransactionType
from billhook.money import decimal_text
from billhook.reports import lists, timelines

_COLUMNS = (
    "created", "type", "status", "amount", "refunded", "currency", "amount_minor",
    "refunded_minor", "description", "customer", "email", "subject_type", "subject_id",
    "reference_type", "reference", "paid_at", "failed_at", "refunded_at",
    "canceled_at", "outside_stripe", "outside_stripe_minor",
)  # fmt: skip


async def listing(visit: Visit) -> Response:
    """The newest payments, searched, filtered and sorted according to the query."""
    query = visit.query(TransactionsQuery)
    database, environment = visit.services.database, visit.environment
    page = await lists.payments(database, environment, query, count_to=COUNTED)
    return visit.show(
        "transactions.html",
        query=query,
        page=page,
        labels=await lists.payment_labels(database, environment, page.rows),
        types=get_args(TransactionType),
        statuses=get_args(TransactionStatus),
        presets=presets.by_time(
            visit,
            ("Failed this week", {"status": "failed", "since": presets.week()}),
            ("Refunded", {"status": "refunded"}),
        ),
    )


async def show(visit: Visit) -> Response:
    """One payment or refund: what it was for, what happened, its refunds and references."""
    reference = visit.request.path_params["reference"]
    database, environment = visit.services.database, visit.environment
    found = await lists.payment(database, environment, reference)
    (label,), timeline = await asyncio.gather(
        lists.payment_labels(database, environment, [found]),
        timelines.of_payment(database, environment, found),
    )
    return visit.show("transaction.html", payment=found, label=label, timeline=timeline)


async def export(visit: Visit) -> Response:
    """The complete list as CSV: one line per payment and refund."""
    database, environment = visit.services.database, visit.environment
    query = visit.query(TransactionsQuery)

    async def read(part: TransactionsQuery) -> lists.Page[Transaction]:
        return await lists.transactions(database, environment, part)

    return exported(visit, "transactions", query, _COLUMNS, read, _lines)


async def _lines(rows: Sequence[Transaction]) -> Iterable[list[str]]:
    return map(_line, rows)


def _line(t: Transaction) -> list[str]:
    return [
        time(t.provider_created_at or t.created_at),
        t.type,
        t.status,
        decimal_text(t.amount, t.currency),
        decimal_text(t.amount_refunded, t.currency),
        (t.currency or "").upper(),
        "" if t.amount is None else str(t.amount),
        str(t.amount_refunded),
        *map(
            text,
            (
                t.description,
                t.provider_customer_id,
                t.customer_email_snapshot,
                t.subject_type,
                t.subject_id,
                t.provider_reference_type,
                t.provider_reference_id,
            ),
        ),
        time(t.paid_at),
        time(t.failed_at),
        time(t.refunded_at),
        time(t.canceled_at),
        decimal_text(t.amount_out_of_band, t.currency),
        str(t.amount_out_of_band),
    ]
