"""Keyset paging: an opaque cursor marks where a page of a list begins or ends. A page starts right
after the last row of the previous page (or ends right before the first row of the next one), so it
costs the same anywhere in a list of a million rows, and nothing is skipped or repeated when rows
are added in the meantime. Conditions, ORDER BY and cursors, in both directions, are derived from
the order of the list.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from typing import Any, Generic, Literal, Protocol, TypeAlias, TypeVar
from uuid import UUID

import asyncpg
import orjson

from billhook.errors import InvalidInput
from billhook.postgres import Connection, Database

S = TypeVar("S")
T = TypeVar("T")

Kind = Literal["boolean", "time", "day", "integer", "uuid", "text"]
Key: TypeAlias = tuple[str, Kind]
"""An SQL expression, and the type of its value in a cursor."""
_SQL_TYPES: dict[Kind, str] = {
    "boolean": "boolean",
    "time": "timestamptz",
    "day": "date",
    "integer": "bigint",
    "uuid": "uuid",
    "text": "text",
}
_INTEGER = re.compile(r"-?\d{1,19}")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, and the cursors of the next and the previous page: None on the last, and on the
    first.

    Attributes:
        total: how many rows the list has, if they were counted (`Listing.page`).
    """

    rows: list[T]
    next_cursor: str | None
    previous_cursor: str | None = None
    total: int | None = None

    def of(self, rows: list[S]) -> Page[S]:
        """The same page with its rows in another form."""
        return Page(rows, self.next_cursor, self.previous_cursor, self.total)


@dataclass(frozen=True, slots=True)
class Order:
    """The order of a list: SQL expressions over its table `t`, never null, the last one unique,
    with their types in a cursor. All ascend or all descend, so that one index scan is enough."""

    keys: tuple[Key, ...]
    descending: bool = False

    @property
    def kinds(self) -> tuple[Kind, ...]:
        return tuple(kind for _, kind in self.keys)

    @property
    def expressions(self) -> tuple[str, ...]:
        return tuple(expression for expression, _ in self.keys)

    def by(self, expressions: Sequence[str], *, backwards: bool = False) -> str:
        """The ORDER BY of these expressions in this order's direction, or against it."""
        ending = " DESC" if self.descending is not backwards else ""
        return ", ".join(f"{expression}{ending}" for expression in expressions)


@dataclass(frozen=True, slots=True)
class Walk:
    """A scan: rows of a list's table `t` that one index returns in the list's order.

    Args:
        conditions: of WHERE.
        each: FROM items; the scan is done once for each of their rows, and the results are merged.
        So an index (a, b, time) returns any combination of `a` and `b` in the order of time.
        expressions: those of the order, if this scan has its own for the same keys.
        floor, ceiling: conditions for the lower and upper bound of the first of them.
        rank: all rows of a scan with a lower rank come before those of this one. It is the first
            value of a cursor.
        table: the table `t`, if it is not the list's.
    """

    conditions: tuple[str, ...]
    each: str = ""
    expressions: tuple[str, ...] = ()
    floor: str | None = None
    ceiling: str | None = None
    rank: int = 0
    table: str | None = None


class Arguments:
    """The bound parameters of a statement."""

    def __init__(self) -> None:
        self.values: list[object] = []

    def add(self, value: object) -> str:
        """Bind a value. Returns its placeholder, `$n`."""
        self.values.append(value)
        return f"${len(self.values)}"


class Conditions:
    """Parts of a WHERE clause, with bound parameters."""

    def __init__(self, args: Arguments) -> None:
        self._args = args
        self.clauses: list[str] = []

    def add(self, clause: str, *values: object) -> None:
        """Add a clause with one `{}` per value, unless its (only) value is None."""
        if values != (None,):
            self.clauses.append(clause.format(*(self._args.add(value) for value in values)))


class Connections(Protocol):
    """Where a list is read: the `Database`, or as a caller (`UsersConnections`)."""

    def connection(self) -> AbstractAsyncContextManager[Connection]: ...


class Asked(Protocol):
    """The requested part of a list: a `ListQuery`."""

    @property
    def limit(self) -> int: ...
    @property
    def starting_after(self) -> str | None: ...
    @property
    def ending_before(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Listing:
    """One list: its table `t`, its order, and the scans that return its rows.

    Args:
        columns: the columns that it shows.
        joined: other tables to join to the page's rows, after FROM.
    """

    table: str
    order: Order
    walks: tuple[Walk, ...]
    columns: str
    args: Arguments
    joined: str = ""

    async def page(
        self, database: Connections, asked: Asked, count_to: int | None = None
    ) -> Page[asyncpg.Record]:
        """The requested page.

        Args:
            count_to: also count the list's rows, and stop beyond this number.

        Raises:
            InvalidInput: the cursor does not belong to this list.
        """
        backwards = asked.ending_before is not None
        start = None
        if asked.ending_before is not None:
            start = self._position("endingBefore", asked.ending_before)
        elif asked.starting_after is not None:
            start = self._position("startingAfter", asked.starting_after)
        total = None
        async with database.connection() as connection:
            if count_to is not None:
                counted = self._rows(count_to + 1, None, backwards=False)
                counted = f"SELECT count(*) FROM ({counted}) AS counted"
                total = await connection.fetchval(counted, *self.args.values)
            statement = self._statement(asked.limit, start, backwards=backwards)
            found = await connection.fetch(statement, *self.args.values)

        rows = [row for row in found if row["on_page"]]
        behind = len(found) > len(rows)  # on the other side of the cursor
        beyond = len(rows) > asked.limit
        if beyond:
            rows = rows[1:] if backwards else rows[:-1]
        first = last = None
        if rows:
            first, last = (
                encode([_plain(row[n]) for n in self._names]) for row in (rows[0], rows[-1])
            )
        elif start is not None:
            first = last = start.turned()
        more_before, more_after = (beyond, behind) if backwards else (behind, beyond)
        return Page(rows, last if more_after else None, first if more_before else None, total)

    @property
    def _names(self) -> list[str]:
        """The columns that make a cursor."""
        return [f"cursor_{n}" for n in range(1 + len(self.order.keys))]

    def _position(self, name: str, cursor: str) -> _Position:
        try:
            (rank, *values), included = _decode(cursor, ("integer", *self.order.kinds))
            if rank not in {walk.rank for walk in self.walks}:
                raise ValueError("another list's")
        except (ValueError, TypeError, OverflowError, binascii.Error):
            raise InvalidInput(
                f"{name}: is not a cursor of this list",
                next_actions="Take it from the `Link: <…>` header of the page before or after.",
            ) from None
        return _Position(rank, values, included)

    def _statement(self, limit: int, start: _Position | None, *, backwards: bool) -> str:
        """The page's rows and one more, and one on the other side of the cursor (including the row
        at the cursor), to find out whether there is a page on either side. The statement leaves
        PostgreSQL no choice of plan where its estimate may be wrong: with a parameter as LIMIT it
        would plan for a tenth of the table, and a plain join might read a whole table for a page.
        """
        if start is not None:
            start.bind(self.args, self.order.kinds)
        ahead = self._rows(limit + 1, start, backwards=backwards)
        page = f"SELECT *, true AS on_page FROM ({ahead}) AS ahead"
        if start is not None:
            behind = self._rows(1, start.other_side(), backwards=not backwards)
            page += f"\nUNION ALL SELECT *, false FROM ({behind}) AS behind"
        cursor = [f"page.{name}" for name in self._names]
        return f"""WITH page AS MATERIALIZED ({page})
            SELECT {self.columns}, page.on_page, {", ".join(cursor)}
            FROM page CROSS JOIN LATERAL (
                SELECT * FROM {self.table} AS own WHERE own.id = page.id LIMIT 1) AS t
            {self.joined}
            ORDER BY {self.order.by(cursor)}"""

    def _rows(self, most: int, start: _Position | None, *, backwards: bool) -> str:
        """At most that many rows of all scans, from the cursor in that direction
        (docs/decisions/0015-lists.md)."""
        down = self.order.descending is not backwards
        merged = []
        for rank in sorted({walk.rank for walk in self.walks}, reverse=down):
            if start is None or (rank <= start.rank if down else rank >= start.rank):
                walks = (walk for walk in self.walks if walk.rank == rank)
                parts = [self._walk(walk, most, start, backwards=backwards) for walk in walks]
                merged.append(f"""(SELECT * FROM ({" UNION ".join(parts)}) AS walks
                    ORDER BY {self.order.by(self._names, backwards=backwards)} LIMIT {most})""")
        # PostgreSQL reads one rank after the other, and stops when it has enough rows.
        return f"SELECT * FROM ({' UNION ALL '.join(merged)}) AS ranks LIMIT {most}"

    def _walk(self, walk: Walk, most: int, start: _Position | None, *, backwards: bool) -> str:
        expressions = walk.expressions or self.order.expressions
        floor, ceiling = walk.floor, walk.ceiling
        conditions = list(walk.conditions)
        if start is not None and start.rank == walk.rank:
            down = self.order.descending is not backwards
            conditions.append(
                f"({', '.join(expressions)}) {'<' if down else '>'}{'=' if start.included else ''} "
                f"({', '.join(start.places)})"
            )
            # Of two conditions, PostgreSQL might scan by the one that is far from the cursor. In
            # this form, the other is only checked.
            if down and ceiling:
                ceiling = f"({ceiling}) IS TRUE"
            elif not down and floor:
                floor = f"({floor}) IS TRUE"
        conditions += [bound for bound in (floor, ceiling) if bound]
        keys = (str(walk.rank), *expressions)
        columns = ", ".join(f"{key} AS {name}" for key, name in zip(keys, self._names, strict=True))
        rows = f"""SELECT t.id, {columns} FROM {walk.table or self.table} AS t
            WHERE {" AND ".join(conditions)}
            ORDER BY {self.order.by(expressions, backwards=backwards)} LIMIT {most}"""
        if walk.each:
            rows = f"""SELECT walk.* FROM {walk.each} CROSS JOIN LATERAL ({rows}) AS walk
                ORDER BY {self.order.by(self._names, backwards=backwards)} LIMIT {most}"""
        return f"({rows})"


@dataclass(slots=True)
class _Position:
    """Where a page begins: at the row with these sort values, including that row or not."""

    rank: int
    values: list[Any]
    included: bool
    places: list[str] = field(default_factory=list)

    def bind(self, args: Arguments, kinds: Sequence[Kind]) -> None:
        self.places = [
            f"{args.add(value)}::{_SQL_TYPES[kind]}"
            for value, kind in zip(self.values, kinds, strict=True)
        ]

    def other_side(self) -> _Position:
        """Its complement, which begins here in the other direction."""
        return replace(self, included=not self.included)

    def turned(self) -> str:
        """The cursor for the other direction if there is no row in this one: no page shows the row
        at the cursor, so the page in the other direction begins with it, if it still exists."""
        plain = [_plain(value) for value in (self.rank, *self.values)]
        return encode(plain if self.included else [*plain, True])


async def are_few(database: Database, rows: str, args: Arguments, most: int) -> bool:
    """Whether a SELECT returns at most that many rows; no more are read."""
    counted = f"SELECT count(*) FROM (SELECT FROM ({rows}) AS r LIMIT {most + 1}) AS c"
    async with database.connection() as connection:
        return bool(await connection.fetchval(counted, *args.values) <= most)


def encode(values: Sequence[object]) -> str:
    """The cursor of the row with these sort values."""
    return base64.urlsafe_b64encode(orjson.dumps(values)).decode().rstrip("=")


def _decode(cursor: str, kinds: Sequence[Kind]) -> tuple[list[Any], bool]:
    """The sort values of a cursor, and whether the page begins with that row itself."""
    values = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    if not isinstance(values, list):
        raise ValueError("another list's")
    included = values[len(kinds) :] == [True]
    if len(values) != len(kinds) + included:
        raise ValueError("another list's")
    return [_read(kind, value) for kind, value in zip(kinds, values, strict=False)], included


def _read(kind: Kind, value: object) -> Any:
    if kind == "boolean":
        if isinstance(value, bool):
            return value
    elif isinstance(value, str) and "\0" not in value:
        if kind == "time":
            return _moment(value)
        if kind == "day":
            return date.fromisoformat(value)
        if kind == "integer" and _INTEGER.fullmatch(value) and abs(int(value)) < 2**63:
            return int(value)
        if kind in ("uuid", "text"):
            return UUID(value) if kind == "uuid" else value
    raise ValueError("of another type")


def _moment(value: str) -> datetime:
    found = datetime.fromisoformat(value)
    if found.tzinfo is None:
        raise ValueError("no moment without its zone")
    return found.astimezone(UTC)


def _plain(value: object) -> object:
    """With microseconds, which orjson also writes for times."""
    return value if isinstance(value, bool) else str(value)
