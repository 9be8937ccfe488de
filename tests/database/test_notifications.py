"""LISTEN and NOTIFY between those who announce and those who wait; and polling where that fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import asyncpg

from billhook.db import Database
from billhook.db.notifications import APPLICATION_NAME, Notifications, Waiting
from books import Books
from pooler import Pooler

CHANNEL = "tests"
NEVER = 3600.0  # seconds; whoever is woken before was told
SOON = 0.01

_LISTENING = "SELECT pid FROM pg_stat_activity WHERE application_name = $1 AND datname = $2"


class Room:
    """Some who wait, a database that they hear of, and a look at its sessions from outside."""

    def __init__(self, database: Database, notifications: Notifications, outside: Any) -> None:
        self.database = database
        self.notifications = notifications
        self._outside = outside

    async def listeners(self) -> list[int]:
        """The sessions that listen for us."""
        name = await self._outside.fetchval("SELECT current_database()")
        rows = await self._outside.fetch(_LISTENING, APPLICATION_NAME, name)
        return [row["pid"] for row in rows]

    async def listening(self, waiting: Waiting) -> None:
        """Return when we listen, and nothing is new."""
        while self.notifications.longest_wait != NEVER:
            await waiting.for_news(NEVER)
        await waiting.for_news(SOON)  # that we listen is news, too

    async def listener(self) -> int:
        (only,) = await self.listeners()
        return only

    async def cut(self, listener: int) -> None:
        await self._outside.execute("SELECT pg_terminate_backend($1)", listener)

    async def until_nobody_listens(self) -> None:
        while await self.listeners():  # noqa: ASYNC110
            await asyncio.sleep(SOON)


@asynccontextmanager
async def room(
    dsn: str, through: str | None = None, *, pool_size: int = 1, **options: Any
) -> AsyncIterator[Room]:
    """`dsn` leads to PostgreSQL itself; `through` is the way that Billhook takes."""
    options = {"look_every": NEVER, "poll_every": 0.05} | options
    database = Database(through or dsn, pool_size=pool_size)
    notifications = Notifications(through or dsn, [CHANNEL], **options)
    outside = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(30):
            await database.open()
            yield Room(database, notifications, outside)
            await notifications.close()
            await database.close()
    finally:
        await outside.close()


def within(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def test_what_is_announced_wakes_whom_it_concerns_and_nobody_else(
    direct_database_url: str,
) -> None:
    async def work() -> None:
        async with room(direct_database_url) as here:
            awaiting = here.notifications.awaiting
            with awaiting(CHANNEL, "mine") as mine, awaiting(CHANNEL, "yours") as yours:
                await here.listening(mine)
                await here.listening(yours)
                other = asyncio.create_task(yours.for_news(NEVER))
                here.database.announce(CHANNEL, "mine")
                await mine.for_news(NEVER)
                assert not other.done()
                here.database.announce(CHANNEL, "yours")
                await other

    within(work)


def test_what_is_announced_between_a_look_and_the_wait_is_not_missed(
    direct_database_url: str,
) -> None:
    async def work() -> None:
        async with room(direct_database_url) as here:
            awaiting = here.notifications.awaiting
            with awaiting(CHANNEL, "x") as waiting, awaiting(CHANNEL, "x") as witness:
                await here.listening(waiting)
                await here.listening(witness)
                here.database.announce(CHANNEL, "x")
                await witness.for_news(NEVER)  # it has arrived, while the other still looked
                await waiting.for_news(NEVER)

    within(work)


def test_a_listening_connection_that_is_cut_off_is_replaced(direct_database_url: str) -> None:
    async def work() -> None:
        async with room(direct_database_url) as here:
            with here.notifications.awaiting(CHANNEL, "x") as waiting:
                await here.listening(waiting)
                first = await here.listener()
                await here.cut(first)
                await waiting.for_news(NEVER)  # the loss itself wakes: now it is time to poll
                assert here.notifications.longest_wait == 0.05
                await here.listening(waiting)
                assert await here.listener() != first
                here.database.announce(CHANNEL, "x")
                await waiting.for_news(NEVER)

    within(work)


def test_a_connection_that_went_silent_is_found_out_and_replaced(direct_database_url: str) -> None:
    async def work() -> None:
        async with (
            Ferry(direct_database_url) as ferry,
            room(direct_database_url, ferry.dsn, check_every=0.1) as here,
        ):
            with here.notifications.awaiting(CHANNEL, "x") as waiting:
                await here.listening(waiting)
                first = await here.listener()
                ferry.silent = True
                while here.notifications.longest_wait == NEVER:
                    await waiting.for_news(NEVER)
                ferry.silent = False
                await here.listening(waiting)
                assert await here.listeners() != [first]

    within(work)


def test_two_hundred_who_wait_share_one_connection_and_take_none_of_the_pool(
    direct_database_url: str,
) -> None:
    async def work() -> None:
        told: list[int] = []

        async def wait(here: Room, number: int) -> None:
            with here.notifications.awaiting(CHANNEL, str(number)) as waiting:
                await here.listening(waiting)
                ready.release()
                await waiting.for_news(NEVER)
                told.append(number)

        ready = asyncio.Semaphore(0)
        async with room(direct_database_url, pool_size=1) as here, asyncio.TaskGroup() as group:
            for number in range(200):
                group.create_task(wait(here, number))
            for _ in range(200):
                await ready.acquire()
            assert len(await here.listeners()) == 1
            async with here.database.connection():
                pass  # the only one of the pool is free
            assert told == []
            for number in range(200):
                here.database.announce(CHANNEL, str(number))
        assert sorted(told) == list(range(200))

    within(work)


def test_the_connection_is_closed_when_nobody_has_waited_for_a_while(
    direct_database_url: str,
) -> None:
    async def work() -> None:
        async with room(direct_database_url, check_every=0.05) as here:
            assert await here.listeners() == []
            for _ in range(2):
                with here.notifications.awaiting(CHANNEL, "x") as waiting:
                    await here.listening(waiting)
                await here.until_nobody_listens()

    within(work)


def test_nobody_listens_behind_a_pooler(direct_database_url: str, pooler: Pooler) -> None:
    async def work() -> None:
        through = pooler.dsn(urlsplit(direct_database_url).path.removeprefix("/"))
        async with room(direct_database_url, through) as here:
            for _ in range(2):  # it is not tried twice
                with here.notifications.awaiting(CHANNEL, "x") as waiting:
                    for _ in range(5):
                        await waiting.for_news(NEVER)
                        assert here.notifications.longest_wait == 0.05
            here.database.announce(CHANNEL, "x")  # to whoever listens elsewhere

    within(work)


def test_where_postgresql_cannot_be_reached_waits_are_short(direct_database_url: str) -> None:
    async def work() -> None:
        notifications = Notifications("postgresql://nobody@127.0.0.1:9/none", [CHANNEL])
        with notifications.awaiting(CHANNEL, "x") as waiting:
            for _ in range(3):
                await waiting.for_news(NEVER)
        await notifications.close()

    within(work)


def test_closing_does_not_wait_for_who_waits(direct_database_url: str) -> None:
    async def work() -> None:
        async with room(direct_database_url) as here:
            with here.notifications.awaiting(CHANNEL, "x") as waiting:
                await here.listening(waiting)
                last = asyncio.create_task(waiting.for_news(NEVER))
                await here.notifications.close()
                await last  # to look once more, by polling
                assert here.notifications.longest_wait == 0.05
                await here.until_nobody_listens()

    within(work)


def test_an_announcement_that_cannot_be_made_is_let_go(direct_database_url: str) -> None:
    async def work(database: Database) -> None:
        database.announce(CHANNEL, "x" * 9000)  # PostgreSQL takes 8000 bytes
        await database.close()
        database.announce(CHANNEL, "x")
        await database.close()

    Books(direct_database_url).run(work)


class Ferry:
    """Carries bytes to PostgreSQL and back, until it falls silent without hanging up."""

    def __init__(self, dsn: str) -> None:
        parts = urlsplit(dsn)
        self._socket = parts.query.partition("host=")[2].replace("%2F", "/") + "/.s.PGSQL.5432"
        self._path = parts.path
        self._tasks: set[asyncio.Task[None]] = set()
        self.silent = False
        self.dsn = ""

    async def __aenter__(self) -> Ferry:
        self._server = await asyncio.start_server(self._cross, "127.0.0.1")
        port = self._server.sockets[0].getsockname()[1]
        self.dsn = f"postgresql://postgres@127.0.0.1:{port}{self._path}?sslmode=disable"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _cross(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_unix_connection(self._socket)
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            task = asyncio.create_task(self._carry(source, sink))
            self._tasks.add(task)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            if self.silent:
                return
            sink.write(data)
        sink.close()
