"""Request bodies, with limits on their size, their duration and the memory of all of them
together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.requests import Request

from billhook.errors import BillhookError, InvalidInput, PayloadTooLarge

_SMALL = 64_000
"""Size in bytes up to which bodies are not limited in number: nearly every Stripe event is
smaller."""
_LARGE_AT_ONCE = 4
_LAST_WORDS = 0.5  # seconds


class Bodies:
    """Reads the bodies of requests. Slow clients, or many large bodies, cannot occupy memory or
    connections for long.

    Args:
        within: seconds within which a body must arrive.
    """

    def __init__(self, *, within: float = 10.0) -> None:
        self._within = within
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)
        self._arriving: set[asyncio.Timeout] = set()

    @asynccontextmanager
    async def read(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        """The raw body, if it is smaller than `limit` bytes. Until the block ends, a large one
        occupies one of the few slots for large bodies.

        Raises:
            PayloadTooLarge: 413; the rest is not read into memory.
            InvalidInput: 408, it did not arrive in time.
            BillhookError: 503, too many large ones at once.
            starlette.requests.ClientDisconnect: the client disconnected.
        """
        length = request.headers.get("content-length", "")
        if length.isdecimal() and (len(length) > 18 or int(length) >= limit):
            raise _too_large(limit)
        body = _Body()
        try:
            await self._fill(body, request, limit)
            yield bytes(body.content)
        finally:
            if body.has_room:
                self._large.release()

    def stop(self) -> None:
        """The server shuts down: reject bodies that don't arrive immediately."""
        self._within = _LAST_WORDS
        until = asyncio.get_running_loop().time() + _LAST_WORDS
        for deadline in self._arriving:
            deadline.reschedule(until)

    async def _fill(self, body: _Body, request: Request, limit: int) -> None:
        deadline = asyncio.timeout(self._within)
        self._arriving.add(deadline)
        try:
            async with deadline:
                async for chunk in request.stream():
                    size = len(body.content) + len(chunk)
                    if size >= limit:
                        raise _too_large(limit)
                    if size > _SMALL and not body.has_room:
                        body.waits = True
                        await self._large.acquire()
                        body.has_room, body.waits = True, False
                    body.content += chunk
        except TimeoutError:
            if body.waits:
                raise BillhookError("Too many large requests at once.", status=503) from None
            raise InvalidInput(
                "The body did not arrive in time.",
                status=408,
                next_actions="Send the request again.",
            ) from None
        finally:
            self._arriving.discard(deadline)


@dataclass(slots=True)
class _Body:
    """A body that is being received.

    Attributes:
        has_room: it is one of the large ones that may be in memory now.
        waits: it is large, and waits for others.
    """

    content: bytearray = field(default_factory=bytearray)
    has_room: bool = False
    waits: bool = False


def _too_large(limit: int) -> BillhookError:
    size = f"{limit // 1_000_000} MB" if limit >= 1_000_000 else f"{limit // 1000} KB"
    return PayloadTooLarge(f"The body must be smaller than {size}.")
