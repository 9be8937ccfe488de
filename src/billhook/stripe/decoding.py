"""Stripe's JSON, in a form that PostgreSQL can store.

JSON allows characters that PostgreSQL does not: NUL, and half of a surrogate pair. They occur in
names and metadata. Each is replaced by U+FFFD, here and nowhere else, in events and responses
alike, so that such an object blocks nothing and always reads the same. What is stored is serialized
again from the parsed value, so a number that only PostgreSQL would reject (`1e-20000`) is stored as
parsed.
"""

from __future__ import annotations

import json
import math
from typing import Any

import orjson

from billhook.storable import UNSTORABLE

REPLACEMENT = "\ufffd"

_MOST_LEVELS = 200
"""Stripe nests a dozen; orjson writes 254."""


def storable(value: Any, levels: int = _MOST_LEVELS) -> Any:
    """The same JSON with what PostgreSQL cannot store replaced: NUL and lone surrogates by U+FFFD,
    what is nested deeper than `levels` by null."""
    if isinstance(value, str):
        return UNSTORABLE.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [storable(entry, levels - 1) for entry in value] if levels else None
    if isinstance(value, dict):
        if not levels:
            return None
        return {storable(key): storable(entry, levels - 1) for key, entry in value.items()}
    return value


def decode(body: bytes) -> tuple[Any, bytes]:
    """Read JSON.

    Returns:
        The value, and its text for PostgreSQL, serialized from that value: numbers beyond a
        double's range are null or zero in both.

    Raises:
        ValueError: it is not JSON, or nested too deeply to be read.
    """
    try:
        found = orjson.loads(body)
        if b"\\u0000" in body:
            found = storable(found)
    except orjson.JSONDecodeError:
        # The standard library also reads lone surrogates and numbers out of range.
        found = storable(_lenient(body))
    try:
        text = orjson.dumps(found)
    except TypeError:  # nested deeper than orjson writes
        found = storable(found)
        text = orjson.dumps(found)
    return found, text


def _lenient(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode(errors="replace"),
            parse_int=_number,
            parse_float=_float,
            parse_constant=_not_json,
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _number(digits: str) -> int | float | None:
    """As orjson reads it: beyond 64 bits it is a double."""
    if len(digits) > 20:
        return _float(digits)
    number = int(digits)
    return number if -(2**63) <= number < 2**64 else float(number)


def _float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
