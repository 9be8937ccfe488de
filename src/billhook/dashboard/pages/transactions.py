"""Transactions: payments with their refunds nested, and all of it as CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import get_args

from starlette.responses import Response, StreamingResponse

from billhook.dashboard.visit import Visit
from billhook.models import Transaction, TransactionsQuery, iso
from billhook.models.queries import TransactionStatus, TransactionType
from billhook.money import decimal_text
from billhook.reports import lists

_CSV_PAGE = 1_000
_COLUMNS = (
    "created", "type", "status", "amount", "refunded", "currency", "amount_minor",
    "refunded_minor", "description", "customer", "email", "subject_type", "subject_id",
    "reference_type", "reference", "paid_at", "failed_at", "refunded_at",
    "canceled_at", "outside_stripe", "outside_stripe_minor",
)  # fmt: skip
# Spreadsheets run text that begins with one of these as a formula, full-width forms included. Where
# semicolons separate columns, text with a semicolon becomes two columns.
_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=\s*[=+\-@\t\r＝＋－＠])")


async def listing(visit: Visit) -> Response:
    """The newest payments, searched, filtered and sorted according to the query."""
    query = visit.query(TransactionsQuery)
    page = await lists.payments(visit.services.database, visit.environment, query)
    return visit.show(
        "transactions.html",
        query=query,
        page=page,
        types=get_args(TransactionType),
        statuses=get_args(TransactionStatus),
    )


async def show(visit: Visit) -> Response:
    """One payment or refund: its references, refunds and events."""
    reference = visit.request.path_params["reference"]
    found = await lists.payment(visit.services.database, visit.environment, reference)
    return visit.show("transaction.html", payment=found)


async def export(visit: Visit) -> Response:
    """The complete list as CSV: one line per payment and refund."""
    query = visit.query(TransactionsQuery)
    name = f"transactions-{visit.environment}.csv"
    return StreamingResponse(
        _lines(visit, query),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _lines(visit: Visit, query: TransactionsQuery) -> AsyncIterator[str]:
    """Page by page: no connection is held while the client reads."""
    yield csv_lines([_COLUMNS])
    cursor: str | None = None
    while True:
        part = query.model_copy(
            update={"limit": _CSV_PAGE, "starting_after": cursor, "ending_before": None}
        )
        page = await lists.transactions(visit.services.database, visit.environment, part)
        if page.rows:
            yield csv_lines(map(_line, page.rows))
        cursor = page.next_cursor
        if cursor is None:
            return


def csv_lines(rows: Iterable[Iterable[str]]) -> str:
    """Lines of a CSV file."""
    lines = io.StringIO()
    csv.writer(lines).writerows(rows)
    return lines.getvalue()


def _line(t: Transaction) -> list[str]:
    return [
        _time(t.provider_created_at or t.created_at),
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
        _time(t.paid_at),
        _time(t.failed_at),
        _time(t.refunded_at),
        _time(t.canceled_at),
        decimal_text(t.amount_out_of_band, t.currency),
        str(t.amount_out_of_band),
    ]


def _time(at: datetime | None) -> str:
    return iso(at) if at else ""


def text(value: str | None) -> str:
    """Untrusted text, never a formula."""
    return _FORMULA.sub("'", value or "")
