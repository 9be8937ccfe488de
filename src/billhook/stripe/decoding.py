"""Stripe's JSON, as PostgreSQL can store it.

JSON allows texts that PostgreSQL does not: NUL, and half of a surrogate pair. Merchants paste such
texts into names and metadata. Each such character becomes U+FFFD, the replacement character, once
and here: in every event and every answer of Stripe's, so that one odd object stops nothing and
all that compares two readings of it compares like with like.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

REPLACEMENT = "\ufffd"

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(value: Any) -> Any:
    """The same JSON with what PostgreSQL cannot store replaced: NUL and lone surrogates by U+FFFD,
    numbers beyond a double's range by null."""
    if isinstance(value, str):
        return _UNSTORABLE.sub(REPLACEMENT, value)
    if isinstance(value, list):
        return [storable(entry) for entry in value]
    if isinstance(value, dict):
        return {storable(key): storable(entry) for key, entry in value.items()}
    return value


def decode(body: bytes) -> tuple[Any, bytes]:
    """Read JSON. Returns it, and its text for PostgreSQL: `body` itself unless something in it had
    to be replaced.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        found = orjson.loads(body)
        if b"\\u0000" not in body:
            return found, body
    except orjson.JSONDecodeError:
        # The standard library also reads lone surrogates and numbers out of range.
        found = _lenient(body)
    try:
        text = orjson.dumps(storable(found))
    except (TypeError, RecursionError) as error:
        raise ValueError("nested too deeply") from error
    return orjson.loads(text), text


def _lenient(body: bytes) -> Any:
    try:
        return json.loads(
            body.decode(errors="replace"), parse_int=_number, parse_constant=_not_json
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _number(digits: str) -> int | float:
    """As orjson reads it: beyond 64 bits it is a double."""
    number = int(digits) if len(digits) <= 20 else float(digits)
    return number if -(2**63) <= number < 2**64 else float(number)


def _not_json(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
