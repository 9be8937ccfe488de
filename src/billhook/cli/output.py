"""Answers, as JSON for programs and as tables for people."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from billhook.client import Page
    from billhook.models import WireModel

T = TypeVar("T")

# Columns of these names are numbers, and stand flush right.
_RIGHT = frozenset({"amount", "refunded", "spent", "payments", "quantity", "attempts"})
_MOST = 100  # that a page of the API holds
_ENDLESS = 10_000  # columns: whoever reads a pipe wants whole lines


def show_json(answer: WireModel | Mapping[str, object]) -> None:
    """Print the API's JSON."""
    body = answer if isinstance(answer, Mapping) else answer.model_dump(mode="json", by_alias=True)
    print(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode())


def show_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, none: str) -> None:
    """Print a table, or `none` when there is nothing in it."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        right = name in _RIGHT
        table.add_column(name, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    if table.row_count:
        console().print(table)
    else:
        print(none)


def show_details(facts: Mapping[str, object]) -> None:
    """Print names and values, one a line; what is empty is left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        if cell(value):
            table.add_row(name, Text(cell(value)))
    console().print(table)


def console() -> Console:
    """Where people read."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _ENDLESS)


def cell(value: object) -> str:
    """A value as people read it.

    Names and messages are other people's text: what would steer the terminal is taken out.
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


def note(text: str) -> None:
    """Tell people something beside the answer."""
    print(text, file=sys.stderr)


def gather(
    page: Callable[[int, str | None], Page[T]],
    limit: int,
    everything: bool,
    starting_after: str | None,
) -> list[T]:
    """As many items of a list as were asked for; tells where it would go on.

    Args:
        page: gives a page of so many items behind a cursor.
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
            note(f"There are more: --all, or --starting-after {cursor}")
            return items
