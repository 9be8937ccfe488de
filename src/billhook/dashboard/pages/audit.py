"""The audit log: who changed what."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from starlette.responses import Response, StreamingResponse

from billhook.access.permissions import Grant, needs
from billhook.dashboard.pages.transactions import csv_lines, text
from billhook.dashboard.visit import Visit
from billhook.models import AuditEntry, AuditQuery, iso
from billhook.reports import lists

_COLUMNS = (
    *("id", "at", "environment", "action", "target", "actor", "via", "address", "outcome"),
    *("ended_at", "error", "request", "before", "after"),
)
_CSV_PAGE = 100


@needs("admin")
async def listing(visit: Visit) -> Response:
    """Entries, newest first."""
    query = visit.query(AuditQuery)
    page = await lists.audit_log(visit.services.database, _grant(visit), query)
    return visit.show("audit.html", query=query, page=page)


@needs("admin")
async def export(visit: Visit) -> Response:
    """The same entries, on all pages, as CSV."""
    name = 'attachment; filename="billhook-audit-log.csv"'
    return StreamingResponse(
        _lines(visit, visit.query(AuditQuery)),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": name},
    )


async def _lines(visit: Visit, query: AuditQuery) -> AsyncIterator[str]:
    yield csv_lines([_COLUMNS])
    cursor: str | None = None
    while True:
        part = query.model_copy(
            update={"limit": _CSV_PAGE, "starting_after": cursor, "ending_before": None}
        )
        page = await lists.audit_log(visit.services.database, _grant(visit), part)
        if page.rows:
            yield csv_lines(map(_line, page.rows))
        cursor = page.next_cursor
        if cursor is None:
            return


def _line(entry: AuditEntry) -> list[str]:
    return [
        str(entry.id),
        iso(entry.at),
        entry.environment or "",
        entry.action,
        text(entry.target),
        text(entry.actor),
        entry.via,
        text(entry.address),
        entry.outcome or "",
        iso(entry.ended_at) if entry.ended_at else "",
        text(entry.error),
        *(_json(each) for each in (entry.request, entry.before, entry.after)),
    ]


def _json(value: object) -> str:
    return "" if value is None else orjson.dumps(value).decode()


def _grant(visit: Visit) -> Grant:
    assert visit.session is not None
    return visit.session.grant
