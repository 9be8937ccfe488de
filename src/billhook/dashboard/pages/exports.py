"""Lists as CSV: all rows that match the filters, page by page. No connection is held while the
client reads."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from starlette.responses import Response, StreamingResponse

from billhook.dashboard.visit import Visit
from billhook.models import iso
from billhook.models.queries import ListQuery
from billhook.reports.paging import Page

Q = TypeVar("Q", bound=ListQuery)

_PAGE = 1_000
# Spreadsheets run text that begins with one of these as a formula, full-width forms included. Where
# semicolons separate columns, text with a semicolon becomes two columns.
_FORMULA = re.compile(r"(?:^|(?<=[;\t\r\n]))(?=\s*[=+\-@\t\r＝＋－＠])")

Lines = Callable[[Sequence[Any]], Awaitable[Iterable[Iterable[str]]]]
"""The lines of a page's rows."""


def exported(
    visit: Visit,
    name: str,
    query: Q,
    columns: Sequence[str],
    read: Callable[[Q], Awaitable[Page[Any]]],
    lines: Lines,
) -> Response:
    """A download of a list.

    Args:
        name: of the list and the file.
        read: reads a page.
    """
    file = f"{name}-{visit.environment}.csv"
    return StreamingResponse(
        _stream(query, columns, read, lines),
        media_type="text/csv; charset=utf-8",
        headers={"content-disposition": f'attachment; filename="{file}"'},
    )


async def _stream(
    query: Q,
    columns: Sequence[str],
    read: Callable[[Q], Awaitable[Page[Any]]],
    lines: Lines,
) -> AsyncIterator[str]:
    yield _csv([columns])
    cursor: str | None = None
    while True:
        part = {"limit": _PAGE, "starting_after": cursor, "ending_before": None}
        page = await read(query.model_copy(update=part))
        if page.rows:
            yield _csv(await lines(page.rows))
        cursor = page.next_cursor
        if cursor is None:
            return


def _csv(rows: Iterable[Iterable[str]]) -> str:
    written = io.StringIO()
    csv.writer(written).writerows(rows)
    return written.getvalue()


def time(at: datetime | None) -> str:
    return iso(at) if at else ""


def text(value: object) -> str:
    """Untrusted text, never a formula."""
    return _FORMULA.sub("'", "" if value is None else str(value))
