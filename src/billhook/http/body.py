"""Request bodies: streamed, bounded, and JSON only when the route says so."""

from __future__ import annotations

from typing import TypeVar

import orjson
from starlette.requests import Request

from billhook import models
from billhook.errors import InvalidInput, PayloadTooLarge

JSON_LIMIT = 1_000_000
"""Bytes at which a runtime request is refused: the largest sensible one has a fraction of that."""

WEBHOOK_LIMIT = 5_000_000
"""Bytes at which a webhook is refused. Stripe's own have a hundredth of that."""

# A client that is still sending does not read our answer. So we read on for a while and forget
# what we read; beyond this, a closed connection is answer enough.
_DRAIN = 64_000_000

R = TypeVar("R", bound=models.Request)


async def read(request: Request, limit: int) -> bytes:
    """The raw body, when it is smaller than `limit` bytes. More is never held in memory.

    Raises:
        PayloadTooLarge: 413.
        starlette.requests.ClientDisconnect: the client went away.
    """
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size < limit:
            chunks.append(chunk)
        else:
            chunks.clear()
            if size > _DRAIN:
                break
    if size >= limit:
        raise PayloadTooLarge(f"The body must be smaller than {limit // 1_000_000} MB.")
    return b"".join(chunks)


async def read_json(request: Request, model: type[R]) -> R:
    """The body as `model`.

    Raises:
        InvalidInput: 400, not JSON, or not what `model` asks for.
        PayloadTooLarge: 413.
    """
    return parse_json(await read(request, JSON_LIMIT), model)


def parse_json(raw: bytes, model: type[R]) -> R:
    """`raw` as `model`. Raises `InvalidInput` as `read_json` does."""
    try:
        decoded = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"body: is not valid JSON ({error})",
            next_actions="Send a JSON object as the request body.",
        ) from None
    return models.parse(model, decoded)


async def read_json_or(request: Request, absent: R) -> R:
    """The body as the model of `absent`, which stands for no body at all. Raises as `read_json`."""
    raw = await read(request, JSON_LIMIT)
    return parse_json(raw, type(absent)) if raw.strip() else absent
