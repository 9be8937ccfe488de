"""uvicorn as `billhook serve` and `billhook dev` run it: with limits for what a client sends before
the application sees it, and a fast shutdown."""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from contextlib import suppress
from typing import Any, ClassVar, Literal

import structlog
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from billhook.errors import InvalidInput
from billhook.http import errors
from billhook.http.limits import LARGEST_HEAD, LONGEST_URL
from billhook.services import Services

_HEAD_WITHIN = 10.0
"""Seconds for the request line and the headers."""
_BODY_WITHIN = 30.0
"""Seconds for a body: longer than the limit of `Bodies`, whose response is better."""
_ANSWER_WITHIN = 30.0
"""Seconds for a client to read a full send buffer: at most the largest response at once."""
_MOST_PIPELINED = 8
_LARGEST_HEAD = LONGEST_URL + LARGEST_HEAD + 16_000
"""Bytes of everything but the body, such as request line and headers: far above the limit of
`Limits`."""
_MOST_AFTER_ANSWER = 5_000_000
"""Bytes of a request that are read and dropped after its response, so that the client reads the
response: the largest body of a route."""
_MOST_CONNECTIONS = 10_000
"""Connections of one process, which need some 100 MB. Fewer if it may open less than twice as many
files: the other half is for PostgreSQL, Stripe and more."""
_LOG_EVERY = 60.0

_log = structlog.get_logger(__name__)


class Protocol(HttpToolsProtocol):
    """One connection. uvicorn itself waits forever for the rest of a request and for a client that
    does not read its response, and accepts headers of any size, also after the body (trailers)."""

    _full_logged_at: ClassVar[float] = -math.inf
    """When this process last logged that it has too many connections (time of the event loop)."""
    _idle_since = 0.0
    """When the connection was opened, or its last response was complete."""
    _answer_clock: asyncio.TimerHandle | None = None
    """Runs while a response fills the send buffer, or while its rest is sent before the connection
    closes."""
    _clock: asyncio.TimerHandle | None = None
    _awaited: Literal["head", "body"] | None = None
    """The reason for the timer."""
    _part: Literal["head", "body"] | None = None
    """The part of a request that has begun and is not complete."""
    _beside_body = 0
    """Bytes received since the request began, or since the last part of its body."""
    _after_answer = 0
    """Bytes of the request that arrived after its response."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._idle_since = self.loop.time()
        self._await("head")
        if len(self.connections) > most_connections():
            self._close_the_longest_idle()

    def connection_lost(self, exc: Exception | None) -> None:
        self._await(None)
        self._stop_answer_clock()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_answer_clock()

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self.transport.is_closing():
            self._stop_answer_clock()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._idle_since = self.loop.time()
        if self.transport.is_closing():
            self._start_answer_clock()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._start_answer_clock()

    def data_received(self, data: bytes) -> None:
        self._beside_body += len(data)
        super().data_received(data)
        if self._part == "body" and self.cycle.response_complete:
            self._after_answer += len(data)
        if not self.transport.is_closing() and self._is_too_long():
            if self._part == "head":
                self.send_400_response("The headers are too large.")
            else:
                self.transport.close()
        if self.transport.is_closing():
            self._start_answer_clock()
            return
        # Empty lines before a request do not begin one, but they stop uvicorn's own timer.
        is_idle = self.cycle is None or self.cycle.response_complete
        self._await(self._part or ("head" if is_idle else None))

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= _MOST_PIPELINED:
            raise ValueError("too many requests at once")  # httptools: 400, and the end
        super().on_message_begin()
        self._part, self._beside_body, self._after_answer = "head", 0, 0

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._part == "head":  # trailers are dropped: the request is already being answered
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._part = "body"

    def on_body(self, body: bytes) -> None:
        super().on_body(body)
        self._beside_body = 0

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._part = None

    def send_400_response(self, msg: str) -> None:
        """Invalid HTTP requests also get the contract's error; uvicorn's is plain text."""
        response = errors.answer(InvalidInput(msg))
        head = b"".join(name + b": " + value + b"\r\n" for name, value in response.raw_headers)
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\n" + head + b"connection: close\r\n\r\n" + response.body
        )
        self.transport.close()

    def shutdown(self) -> None:
        """uvicorn begins to shut down: it waits for pending responses."""
        services = _services_of(self.config.loaded_app)
        if services is not None:
            services.stop()
        super().shutdown()

    def _is_idle(self) -> bool:
        """Whether no complete request waits for its response."""
        return (
            self.cycle is None
            or self.cycle.response_complete
            or (self._part == "body" and not self.pipeline)
        )

    def _close_the_longest_idle(self) -> None:
        """Make room for this connection: close those that have been idle for the longest time. A
        fiftieth at once, because looking for them takes milliseconds. If all others are busy, this
        one is closed."""
        idle = [each for each in self.connections if isinstance(each, Protocol) and each._is_idle()]
        idle.sort(key=lambda each: each._idle_since)
        for each in idle[: 1 + len(self.connections) // 50]:
            self.connections.discard(each)
            each.transport.abort()
        if self.loop.time() > Protocol._full_logged_at + _LOG_EVERY:
            Protocol._full_logged_at = self.loop.time()
            _log.warning(
                "too many connections: the longest idle ones are closed",
                most=most_connections(),
                next_actions="Limit connections per client in the reverse proxy. If `most` is "
                f"below {_MOST_CONNECTIONS}, allow more open files (LimitNOFILE, ulimit -n).",
            )

    def _is_too_long(self) -> bool:
        """Whether the current request is larger than any legitimate one."""
        return self._part is not None and (
            self._beside_body > _LARGEST_HEAD or self._after_answer > _MOST_AFTER_ANSWER
        )

    def _await(self, part: Literal["head", "body"] | None) -> None:
        """Close the connection unless this part is complete in time."""
        if part == self._awaited:
            return
        self._awaited = part
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if part is not None:
            seconds = _HEAD_WITHIN if part == "head" else _BODY_WITHIN
            self._clock = self.loop.call_later(seconds, self.transport.abort)

    def _start_answer_clock(self) -> None:
        if self._answer_clock is None:
            self._answer_clock = self.loop.call_later(_ANSWER_WITHIN, self._give_up)

    def _stop_answer_clock(self) -> None:
        if self._answer_clock is not None:
            self._answer_clock.cancel()
            self._answer_clock = None

    def _give_up(self) -> None:
        """Close the connection and drop unsent data, including the kernel's buffer."""
        connection = self.transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


def allow_many_connections() -> None:
    """Raise this process's limit of open files to its maximum: often from 1,024 to 524,288."""
    with suppress(ImportError, ValueError, OSError):  # Windows, and macOS without a hard limit
        import resource

        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def most_connections() -> int:
    """How many connections this process keeps."""
    try:
        import resource
    except ImportError:  # Windows
        return _MOST_CONNECTIONS
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    is_unlimited = soft == resource.RLIM_INFINITY
    return _MOST_CONNECTIONS if is_unlimited else min(_MOST_CONNECTIONS, soft // 2)


OPTIONS: dict[str, Any] = {
    "http": Protocol,
    "ws": "none",
    "log_config": None,
    "access_log": False,
    "server_header": False,
}
"""uvicorn's options for `billhook serve`."""


def _services_of(app: object) -> Services | None:
    """The application's services, inside uvicorn's wrappers."""
    while app is not None and not isinstance(app, FastAPI):
        app = getattr(app, "app", None)
    return getattr(app.state, "services", None) if app is not None else None
