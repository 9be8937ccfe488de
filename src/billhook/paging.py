"""Keyset paging: where a page of a list begins, as an opaque cursor.

A page starts right behind the row that ended the one before, so it costs the same anywhere in a
list of a million rows, and nothing is skipped or shown twice when rows are added meanwhile.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

import orjson

from billhook.errors import InvalidInput

T = TypeVar("T")

_TYPES: dict[str, Callable[[Any], Any]] = {
    "time": datetime.fromisoformat,
    "uuid": UUID,
    "text": str,
    "boolean": bool,
}


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
        return [_TYPES[kind](value) for kind, value in zip(types, values, strict=True)]
    except (ValueError, TypeError, binascii.Error):
        raise InvalidInput(
            "startingAfter: is not a cursor of this list",
            next_actions='Take it from the `Link: <…>; rel="next"` header of the page before.',
        ) from None
