"""Sending a call, and sending it again where that is safe and of use."""

from __future__ import annotations

import asyncio
import random
from itertools import count

import httpx

from billhook.client.request import Answer, Call, M, may_repeat, pause, read, unreachable

SLOW = httpx.Timeout(3600.0, connect=10.0)
"""For a sync: of a large account it takes minutes."""


class AsyncTransport:
    """The connections of one client."""

    def __init__(self, http: httpx.AsyncClient, base_url: str, retries: int) -> None:
        self._http = http
        self._base_url = base_url
        self._retries = retries

    async def send(self, call: Call[M]) -> Answer[M]:
        """The answer to `call`.

        Raises:
            ApiError: the server refused or failed, or was not there, also after the retries.
        """
        for attempt in count(1):
            failure = await self._try(call)
            if isinstance(failure, httpx.Response) and failure.status_code < 500:
                return read(call, failure)
            if attempt > self._retries or not may_repeat(call, failure):
                break
            await asyncio.sleep(pause(attempt, failure, random.random()))  # noqa: S311
        if isinstance(failure, httpx.RequestError):
            raise unreachable(self._base_url, failure) from failure
        return read(call, failure)

    async def _try(self, call: Call[M]) -> httpx.Response | httpx.RequestError:
        try:
            return await self._http.request(
                call.method,
                f"{self._base_url}{call.path}",
                params=dict(call.query) or None,
                json=None if call.body is None else dict(call.body),
                timeout=SLOW if call.slow else httpx.USE_CLIENT_DEFAULT,
            )
        except httpx.RequestError as error:
            return error

    async def close(self) -> None:
        await self._http.aclose()
