"""LISTEN: whoever waits is told of what `Database.announce` announced, where that is possible.

Listening needs a connection of its own, which a pooler in transaction mode does not give, and a
notification may be lost with a connection. So nothing relies on it: it only says that it is time to
look, and whoever waits looks now and then without one (docs/decisions/0006-notifications.md).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

import asyncpg
import structlog

from billhook.database_url import dsn_of
from billhook.db import UNAVAILABLE, Connection, is_behind_a_pooler

_log = structlog.get_logger(__name__)

APPLICATION_NAME = "billhook listener"

_NAME = f"SET application_name = '{APPLICATION_NAME}'"
_SIGN_OF_LIFE = "SELECT 1"
_CONNECT_WITHIN = 10.0  # seconds
_FAREWELL_WITHIN = 1.0
_AGAIN_AFTER = 0.1  # each time twice as long, up to
_AGAIN_AT_LATEST_AFTER = 30.0


class Notifications:
    """What is announced on some channels, for all who wait in this process, over one connection.

    It is opened for the first who waits, and closed when nobody has waited for a while. One that is
    lost is opened again. Until then, and behind a pooler for good, whoever waits polls.

    Args:
        dsn: where to listen.
        channels: what to listen to.
        look_every: the longest wait (seconds) while we listen: a notification may be lost.
        poll_every: the longest wait while we don't.
        check_every: how often the connection has to give a sign of life, within as long; it is
            closed when nobody has waited since the last one.
    """

    def __init__(
        self,
        dsn: str,
        channels: Collection[str],
        *,
        look_every: float = 2.0,
        poll_every: float = 0.2,
        check_every: float = 30.0,
    ) -> None:
        self._dsn = dsn_of(dsn)
        self._channels = channels
        self._look_every = look_every
        self._poll_every = poll_every
        self._check_every = check_every
        self._waiting: defaultdict[tuple[str, str], set[Waiting]] = defaultdict(set)
        self._wanted = False  # since the last check
        self._listening = False
        self._possible = True
        self._pause = _AGAIN_AFTER
        self._task: asyncio.Task[None] | None = None

    @contextmanager
    def awaiting(self, channel: str, payload: str) -> Iterator[Waiting]:
        """Wait for `payload` on `channel`.

        First look, within the block, at what it would announce; then wait and look in turns. What
        is announced from here on is not missed: while we don't listen yet, waits are short, and
        when we begin to, everybody is woken to look once more.
        """
        waiting = Waiting(self)
        self._waiting[channel, payload].add(waiting)
        self._wanted = True
        if self._possible and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._listen())
        try:
            yield waiting
        finally:
            self._waiting[channel, payload].remove(waiting)
            if not self._waiting[channel, payload]:
                del self._waiting[channel, payload]

    @property
    def longest_wait(self) -> float:
        """Seconds after which whoever waits looks without having been told."""
        return self._look_every if self._listening else self._poll_every

    def wake(self) -> None:
        """Let everybody who waits look, whatever for."""
        self._wake(*self._waiting)

    async def close(self) -> None:
        """Stop listening. Whoever still waits polls."""
        self._possible = False
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _listen(self) -> None:
        """Listen for as long as somebody waits, over one connection after the other."""
        self._pause = _AGAIN_AFTER
        said = ""
        while self._waiting and self._possible:
            try:
                await self._listen_once()
            except (*UNAVAILABLE, asyncpg.PostgresError) as error:
                if str(error) != said:
                    said = str(error)
                    _log.warning("cannot listen to PostgreSQL, polling instead", reason=said)
            if self._waiting and self._possible:
                await asyncio.sleep(self._pause)
                self._pause = min(2 * self._pause, _AGAIN_AT_LATEST_AFTER)

    async def _listen_once(self) -> None:
        """Listen until nobody has waited for a while, or the connection is lost."""
        connection = await asyncpg.connect(
            self._dsn,
            timeout=_CONNECT_WITHIN,
            statement_cache_size=0,
            server_settings={"application_name": "billhook"},
        )
        try:
            if await is_behind_a_pooler(connection):
                self._possible = False
                return
            await connection.execute(_NAME)  # not before: a pooler would pass it on to others
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            for channel in self._channels:
                await connection.add_listener(channel, self._told)
            self._listening = True
            self._wake(*self._waiting)  # of what was told until now, nobody heard
            await self._attend(connection, lost)
        finally:
            self._listening = False
            self._wake(*self._waiting)  # to poll from now on
            with suppress(*UNAVAILABLE, asyncpg.PostgresError):
                await connection.close(timeout=_FAREWELL_WITHIN)

    async def _attend(self, connection: Connection, lost: asyncio.Event) -> None:
        while self._wanted:
            self._wanted = bool(self._waiting)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._check_every):
                    await lost.wait()
                    return
            await connection.execute(_SIGN_OF_LIFE, timeout=self._check_every)
            self._pause = _AGAIN_AFTER

    def _told(self, _connection: object, _process: int, channel: str, payload: object) -> None:
        self._wake((channel, str(payload)))

    def _wake(self, *keys: tuple[str, str]) -> None:
        for key in keys:
            for waiting in self._waiting.get(key, ()):
                waiting.wake()


class Waiting:
    """Somebody who waits; made by `Notifications.awaiting`."""

    def __init__(self, notifications: Notifications) -> None:
        self._notifications = notifications
        self._news = asyncio.Event()

    def wake(self) -> None:
        """It is time to look."""
        self._news.set()

    async def for_news(self, at_most: float) -> None:
        """Return when it is time to look: at once if it has been since the last time, and after
        `at_most` seconds in any case."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(at_most, self._notifications.longest_wait)):
                await self._news.wait()
        self._news.clear()
