# Generated from _async/transport.py by `python src/billhook/client/generate.py`; don't edit.
"""Sending a call, and sending it again where that is safe and of use."""

from __future__ import annotations

import random
import time
from itertools import count

import httpx

from billhook.client.request import Answer, Call, M, may_repeat, pause, read, unreachable

SLOW = httpx.Timeout(3600.0, connect=10.0)
"""For a sync: of a large account it takes minutes."""


class SyncTransport:
    """The connections of one client."""

    def __init__(self, http: httpx.Client, base_url: str, retries: int) -> None:
        self._http = http
        self._base_url = base_url
        self._retries = retries

    def send(self, call: Call[M]) -> Answer[M]:
        """The answer to `call`.

        Raises:
            ApiError: the server refused or failed, or was not there, also after the retries.
        """
        for attempt in count(1):
            failure = self._try(call)
            if isinstance(failure, httpx.Response) and failure.status_code < 500:
                return read(call, failure)
            if attempt > self._retries or not may_repeat(call, failure):
                break
            time.sleep(pause(attempt, failure, random.random()))  # noqa: S311
        if isinstance(failure, httpx.RequestError):
            raise unreachable(self._base_url, failure) from failure
        return read(call, failure)

    def _try(self, call: Call[M]) -> httpx.Response | httpx.RequestError:
        try:
            return self._http.request(
                call.method,
                f"{self._base_url}{call.path}",
                params=dict(call.query) or None,
                json=None if call.body is None else dict(call.body),
                timeout=SLOW if call.slow else httpx.USE_CLIENT_DEFAULT,
            )
        except httpx.RequestError as error:
            return error

    def close(self) -> None:
        self._http.close()
