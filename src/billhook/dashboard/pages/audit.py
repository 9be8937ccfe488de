"""The audit log: who changed what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import orjson
from starlette.responses import Response

from billhook.access.permissions import Grant, needs
from billhook.dashboard.pages.exports import exported, text, time
from billhook.dashboard.visit import Visit
from billhook.models import AuditEntry, AuditQuery
from billhook.reports import lists

_COLUMNS = (
    *("id", "at", "environment", "action", "target", "actor", "via", "address", "outcome"),
    *("ended_at", "error", "request", "before", "after"),
)


@needs("admin")
async def listing(visit: Visit) -> Response:
    """Entries, newest first."""
    query = visit.query(AuditQuery)
    page = await lists.audit_log(visit.services.database, _grant(visit), query)
    return visit.show("audit.html", query=query, page=page)


@needs("admin")
async def export(visit: Visit) -> Response:
    """The same entries, on all pages, as CSV."""
    database, grant = visit.services.database, _grant(visit)

    async def read(part: AuditQuery) -> lists.Page[AuditEntry]:
        return await lists.audit_log(database, grant, part)

    return exported(visit, "audit-log", visit.query(AuditQuery), _COLUMNS, read, _lines)


async def _lines(rows: Sequence[AuditEntry]) -> Iterable[list[str]]:
    return map(_line, rows)


def _line(entry: AuditEntry) -> list[str]:
    return [
        str(entry.id),
        time(entry.at),
        entry.environment or "",
        entry.action,
        text(entry.target),
        text(entry.actor),
        entry.via,
        text(entry.address),
        entry.outcome or "",
        time(entry.ended_at),
        text(entry.error),
        *(_json(each) for each in (entry.request, entry.before, entry.after)),
    ]


def _json(value: object) -> str:
    return "" if value is None else text(orjson.dumps(value).decode())


def _grant(visit: Visit) -> Grant:
    assert visit.session is not None
    return visit.session.grant
