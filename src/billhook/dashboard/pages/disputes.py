"""Disputes: what cardholders have asked their bank to reverse, and until when to respond."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from starlette.responses import Response

from billhook.dashboard.pages import presets
from billhook.dashboard.pages.exports import exported, text, time
from billhook.dashboard.rendering import COUNTED
from billhook.dashboard.visit import Visit
from billhook.errors import PaymentNotFound
from billhook.models import LISTS, MirroredQuery, MirroredRow, Payment
from billhook.money import decimal_text
from billhook.reports import lists, timelines

_DISPUTES = LISTS["disputes"]
_COLUMNS = (
    "id", "status", "created", "amount", "currency", "reason", "evidence_due_by",
    "payment_intent", "charge",
)  # fmt: skip


async def listing(visit: Visit) -> Response:
    """Disputes, newest first."""
    query = visit.query(_DISPUTES.query)
    database, environment = visit.services.database, visit.environment
    page = await lists.mirrored(database, environment, _DISPUTES, query, count_to=COUNTED)
    return visit.show(
        "disputes.html",
        page=page,
        people=await lists.payers(
            database, environment, [each.payment_intent_id or each.charge_id for each in page.rows]
        ),
        statuses=_DISPUTES.of.listed.choices,
        presets=presets.by_time(
            visit,
            ("Needs response", {"status": "needs_response"}),
            ("Under review", {"status": "under_review"}),
            ("Lost", {"status": "lost"}),
        ),
    )


async def show(visit: Visit) -> Response:
    """One dispute, and its payment."""
    database, environment = visit.services.database, visit.environment
    dispute_id = visit.request.path_params["dispute"]
    found = await lists.mirrored_one(database, environment, _DISPUTES, dispute_id)
    payment, timeline = await asyncio.gather(
        _payment(visit, found.payment_intent_id or found.charge_id),
        timelines.of_object(database, environment, "dispute", dispute_id),
    )
    labels = await lists.payment_labels(database, environment, [payment] if payment else [])
    return visit.show(
        "dispute.html",
        dispute=found,
        payment=payment,
        label=labels[0] if labels else None,
        timeline=timeline,
    )


async def _payment(visit: Visit, reference: str | None) -> Payment | None:
    if reference is None:
        return None
    try:
        return await lists.payment(visit.services.database, visit.environment, reference)
    except PaymentNotFound:
        return None


async def export(visit: Visit) -> Response:
    """The complete list as CSV."""
    database, environment = visit.services.database, visit.environment

    async def read(part: MirroredQuery) -> lists.Page[MirroredRow]:
        return await lists.mirrored(database, environment, _DISPUTES, part)

    return exported(visit, "disputes", visit.query(_DISPUTES.query), _COLUMNS, read, _lines)


async def _lines(rows: Sequence[MirroredRow]) -> Iterable[list[str]]:
    return map(_line, rows)


def _line(d: MirroredRow) -> list[str]:
    return [
        text(d.dispute_id),
        text(d.status),
        time(d.provider_created_at or d.created_at),
        decimal_text(d.amount, d.currency),
        (d.currency or "").upper(),
        text(d.reason),
        time(d.evidence_due_by),
        text(d.payment_intent_id),
        text(d.charge_id),
    ]
