"""Request bodies: bounded, and JSON only when the route says so."""

from __future__ import annotations

from typing import TypeVar

import orjson
from fastapi import Request

from billhook import models
from billhook.errors import InvalidInput, PayloadTooLarge

JSON_LIMIT = 1_000_000
WEBHOOK_LIMIT = 5_000_000

R = TypeVar("R", bound=models.Request)


async def read(request: Request, limit: int) -> bytes:
    """The raw body, of at most `limit` bytes. More is never held in memory.

    Raises:
        PayloadTooLarge: 413.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


async def read_json(request: Request, model: type[R]) -> R:
    """The body as `model`.

    Raises:
        InvalidInput: 400, not JSON, or not what `model` asks for.
        PayloadTooLarge: 413.
    """
    try:
        decoded = orjson.loads(await read(request, JSON_LIMIT))
    except orjson.JSONDecodeError:
        raise InvalidInput("The body is not valid JSON.") from None
    return models.parse(model, decoded)


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is larger than {limit:,} bytes.")
