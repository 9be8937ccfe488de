"""Results, as JSON for programs and as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import orjson
from pydantic.alias_generators import to_camel
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from billhook.client import Page
    from billhook.models import WireModel

T = TypeVar("T")

# Columns with these names are numbers and right-aligned.
_RIGHT = frozenset(
    {"amount", "refunded", "outside Stripe", "spent", "payments", "quantity", "attempts"}
    | {"paid", "refunds", "failed"}
)
# Free text, which may be long. No ids.
_FREE = frozenset({"name", "description", "error", "test", "live"})
_FOLDED = 24  # minimum width of free text that is wrapped
_MOST = 100  # items per page of the API
_ENDLESS = 10_000  # columns


def show_json(answer: WireModel | Mapping[str, object]) -> None:
    """Print the API's JSON."""
    body = answer if isinstance(answer, Mapping) else answer.model_dump(mode="json", by_alias=True)
    option = orjson.OPT_INDENT_2 | orjson.OPT_UTC_Z
    print(orjson.dumps(body, default=str, option=option).decode())  # asyncpg has UUIDs of its own


def show_json_lines(name: str, items: Iterable[bytes]) -> None:
    """Print `{name: items}` as JSON, item by item: there may be a million.

    Args:
        items: each as JSON.
    """
    print(f'{{"{name}": [', end="")
    for number, item in enumerate(items):
        print("," if number else "", item.decode(), sep="\n  ", end="")
    print("\n]}")


def as_wire(row: DataclassInstance) -> dict[str, object]:
    """A row that no route returns, in the style of the API's responses."""
    return {to_camel(each.name): getattr(row, each.name) for each in fields(row)}


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, none: str) -> None:
    """Print a table, or `none` if it is empty. Empty columns are omitted.

    Ids are never truncated, so that they can be copied; only free text is wrapped. If the terminal
    is too narrow for that, it breaks the lines itself.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if not cells:
        print(none)
        return
    used = [n for n in range(len(columns)) if n == 0 or any(row[n] for row in cells)]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for n in used:
        name = columns[n]
        right = name in _RIGHT
        table.add_column(
            name, justify="right" if right else "left", no_wrap=name not in _FREE, overflow="fold"
        )
    for row in cells:
        table.add_row(*(Text(row[n]) for n in used))
    needed = sum(_least(columns[n], [row[n] for row in cells]) + 2 for n in used) - 2
    too_narrow = needed > console().width
    console(_ENDLESS if too_narrow else None).print(table, soft_wrap=too_narrow)


def _least(column: str, cells: Iterable[str]) -> int:
    """How wide a column must be."""
    longest = max(map(cell_len, (column, *cells)))
    return min(longest, _FOLDED) if column in _FREE else longest


def show_details(facts: Mapping[str, object]) -> None:
    """Print names and values, one per line; empty values are omitted."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if cell(value):
            table.add_row(name, Text(cell(value)))
    console().print(table)


def console(width: int | None = None) -> Console:
    """The console. Lines in a pipe are not wrapped."""
    return Console(highlight=False, width=width or (None if sys.stdout.isatty() else _ENDLESS))


def cell(value: object) -> str:
    """A value as people read it.

    Names and messages are untrusted text: terminal control characters are removed.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
    return "".join(c if c.isprintable() else " " for c in str(value))


def pairs(of: Mapping[str, object]) -> str:
    """`{"a": 1, "b": 2}` as `a 1, b 2`."""
    return ", ".join(f"{name} {value}" for name, value in of.items())


def words(name: str) -> str:
    """`payment_methods` as people write it."""
    return name.replace("_", " ")


def counts(of: Mapping[str, int]) -> str:
    """How many objects each list has."""
    return pairs({words(name): count for name, count in of.items()})


def note(text: str) -> None:
    """Print a message on standard error, next to the result."""
    print(text, file=sys.stderr)


def nothing(what: str, *filters: object) -> str:
    """The message for an empty list, with or without filters."""
    return f"No {what}{' match' if any(filters) else ' yet'}."


def gather(
    page: Callable[[int, str | None], Page[T]],
    limit: int,
    everything: bool,
    starting_after: str | None,
) -> list[T]:
    """As many items of a list as requested; prints the cursor if there are more.

    Args:
        page: returns a page of a given size after a cursor.
    """
    items: list[T] = []
    cursor = starting_after
    while True:
        found = page(_MOST if everything else min(_MOST, limit - len(items)), cursor)
        items += found.items
        cursor = found.next_cursor
        if cursor is None:
            return items
        if not everything and len(items) >= limit:
            note(f"More entries: pass --all or --starting-after {cursor}")
            return items
