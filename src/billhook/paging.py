"""Keyset paging: where a page of a list begins, as an opaque cursor.

A page starts right behind the row that ended the one before, so it costs the same anywhere in a
list of a million rows, and nothing is skipped or shown twice when rows are added meanwhile.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import asyncpg
import orjson

from billhook.db import Database
from billhook.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, and the cursor of the next; None on the last."""

    rows: list[T]
    next_cursor: str | None


def encode(values: Sequence[object]) -> str:
    """The cursor of the row with these sort values."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def decode(cursor: str, types: Sequence[str]) -> list[Any]:
    """The sort values of a cursor.

    Raises:
        InvalidInput: it is none of this list's.
    """
    try:
        values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not isinstance(values, list) or len(values) != len(types):
            raise ValueError("another list's")
        return [_read(kind, value) for kind, value in zip(types, values, strict=True)]
    except (ValueError, TypeError, binascii.Error):
        raise InvalidInput(
            "startingAfter: is not a cursor of this list",
            next_actions='Take it from the `Link: <…>; rel="next"` header of the page before.',
        ) from None


def _read(kind: str, value: object) -> Any:
    if kind == "boolean":
        if isinstance(value, bool):
            return value
    elif isinstance(value, str) and "\0" not in value:
        if kind == "time":
            return datetime.fromisoformat(value)
        return UUID(value) if kind == "uuid" else value
    raise ValueError("of another type")


class Conditions:
    """The WHERE clause of a list, with bound parameters."""

    def __init__(self) -> None:
        self._clauses: list[str] = []
        self.args: list[object] = []

    def add(self, clause: str, *values: object) -> None:
        """Add a clause with one `{}` per value, unless its (only) value is None."""
        if values == (None,):
            return
        places = []
        for value in values:
            self.args.append(value)
            places.append(f"${len(self.args)}")
        self._clauses.append(clause.format(*places))

    def query(self, template: str, limit: int) -> str:
        """The statement: `template` with these conditions, and one row more than the page has."""
        self.args.append(limit + 1)
        return template.format(conditions=" AND ".join(self._clauses), limit=f"${len(self.args)}")


async def page_of(
    database: Database, where: Conditions, template: str, limit: int, *sort_columns: str
) -> tuple[Sequence[asyncpg.Record], str | None]:
    """Run a list's statement. Returns the page's rows, and the cursor of the next page if any."""
    statement = where.query(template, limit)
    async with database.connection() as connection:
        rows = await connection.fetch(statement, *where.args)
    if len(rows) <= limit:
        return rows, None
    rows = rows[:limit]
    return rows, encode([_plain(rows[-1][column]) for column in sort_columns])


def _plain(value: object) -> object:
    """Microseconds included, which orjson writes for times as well."""
    return value if isinstance(value, bool) else str(value)
