"""The parameters of `/v2` requests, which are JSON. They are converted to the form of `/v1`, so
that the same code checks both."""

from datetime import UTC, datetime
from typing import Any

import orjson

from billhook_sandbox.errors import InvalidRequest


def decode_json(body: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise InvalidRequest("Invalid request: the body is not JSON.") from error
    if not isinstance(found, dict):
        raise InvalidRequest("Invalid request: the body must be a JSON object.")
    return {name: as_form(value, name) for name, value in found.items()}


def as_form(value: Any, param: str) -> Any:
    """All values of the supported operations are strings, in objects and arrays."""
    if isinstance(value, dict):
        return {name: as_form(inner, f"{param}[{name}]") for name, inner in value.items()}
    if isinstance(value, list):
        return {str(i): as_form(inner, f"{param}[{i}]") for i, inner in enumerate(value)}
    if value is None or isinstance(value, str):
        return value or ""
    raise InvalidRequest(f"Invalid value for {param}: expected a string.", param=param)


def iso_time(raw: Any, param: str) -> int:
    """A timestamp of `/v2`, such as 2026-11-28T12:00:00.000Z, in seconds since the epoch."""
    try:
        moment = datetime.fromisoformat(raw)
    except (TypeError, ValueError) as error:
        message = f"Invalid timestamp: {raw}. It must be in RFC 3339 format."
        raise InvalidRequest(message, param=param) from error
    if moment.tzinfo is None:
        raise InvalidRequest("The timestamp must have a time zone.", param=param)
    return int(moment.timestamp())


def as_iso(timestamp: float) -> str:
    moment = datetime.fromtimestamp(timestamp, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
