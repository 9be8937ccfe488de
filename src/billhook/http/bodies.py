"""Reading request bodies: streamed, never more than the limit in memory."""

from __future__ import annotations

from typing import TypeVar

import orjson
from starlette.requests import Request

from billhook.errors import InvalidInput, PayloadTooLarge
from billhook.models import Request as Body
from billhook.models import parse

RUNTIME_LIMIT = 1_000_000
"""Bytes of a runtime request: the largest legal one has a fraction of that."""

WEBHOOK_LIMIT = 5_000_000
"""Bytes at which a webhook is refused. Stripe's own are a hundredth of that."""

# A client that is still sending does not read our answer. So we read on for a while, and forget
# what we read; beyond this, closing the connection is answer enough.
_DRAIN = 64_000_000

M = TypeVar("M", bound=Body)


async def read_body(request: Request, limit: int) -> bytes:
    """The body, when it is smaller than `limit` bytes.

    Raises:
        PayloadTooLarge: it is not; at no time is more than `limit` held.
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


async def read_json(request: Request, model: type[M]) -> M:
    """The JSON body of a runtime route.

    Raises:
        InvalidInput: not JSON, or not what `model` asks for.
        PayloadTooLarge: see `read_body`.
    """
    raw = await read_body(request, RUNTIME_LIMIT)
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"body: is not valid JSON ({error})") from None
    return parse(model, body)
