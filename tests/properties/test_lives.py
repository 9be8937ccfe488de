"""Whatever customers do, and however its events arrive: the same rows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import httpx
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lives import DAY, FULL_LIVES, KEY, WANTED, Deed, deeds, listening, live, live_at, told
from pydantic import SecretStr
from test_order import assert_all_applied

from api import connect
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.kinds import TABLES
from billhook.ledger import Ledger
from billhook.mirror.fetching import StripeReader
from billhook.mirror.rebuild import rebuild
from billhook.mirror.refreshes import settle_all
from billhook.mirror.sync import Sync
from billhook.models import RebuildOrder
from billhook.postgres import Database
from billhook.recovery.pulling import pull_due
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from books import WIPE, Books, apply_one, state_of
from depth import by_depth
from http_tokens import JWT_SECRET

# Beside those that have all there is.
LIVES = by_depth(4, 60, 2000)
LIVES_OVER_HTTP = by_depth(2, 40, 2000)
# What was fetched is shown with another version than what an event said, and in other detail.
VERSIONS = (
    "raw",
    "provider_event_at",
    "provider_event_rank",
    "provider_event_id",
    "provider_event_previous",
)


# Not hypothesis's own: how many events there are hangs on the second in which things happen.
chances = st.integers(0, 2**32)

Events = list[dict[str, Any]]


async def queued(database: Database) -> set[str]:
    """Mirrored objects that events alone cannot tell: here is nobody to ask."""
    async with database.connection() as connection:
        return set(
            await connection.fetchval(
                "SELECT coalesce(array_agg(object_id), '{}') FROM billhook.refreshes"
                " WHERE reason = 'several changes in one second'"
            )
        )


def sure(state: dict[str, list[str]], refreshing: set[str]) -> dict[str, list[str]]:
    """Without the rows of the mirror that show an object queued for a refresh."""
    return {
        table: [
            row
            for row in rows
            if table not in TABLES or not any(f'"{each}"' in row for each in refreshing)
        ]
        for table, rows in state.items()
    }


def test_any_life_ends_in_the_same_rows_in_any_order_and_on_many_connections(books: Books) -> None:
    drawn: set[str] = set()

    @settings(max_examples=LIVES)
    @example(FULL_LIVES[0], 1, 2)
    @example(FULL_LIVES[1], 2, 3)
    @example(FULL_LIVES[2], 3, 4)
    @example(FULL_LIVES[3], 4, 2)
    @given(deeds, chances, st.integers(1, 4))
    def holds(life: list[Deed], seed: int, lanes: int) -> None:
        chance = random.Random(seed)
        events = live(life)
        drawn.update(map(told, events))
        books.run(partial(both_ways, events, chance, lanes))

    async def both_ways(
        events: Events, chance: random.Random, lanes: int, database: Database
    ) -> None:
        await wipe(database)
        await arrive(database, [events])
        expected = await state_of(database)
        refreshing = await queued(database)
        shuffled = events + chance.sample(events, len(events) // 3)
        chance.shuffle(shuffled)
        await wipe(database)
        await arrive(database, (shuffled[lane::lanes] for lane in range(lanes)))
        refreshing |= await queued(database)
        assert sure(await state_of(database), refreshing) == sure(expected, refreshing)
        await assert_the_ledger_tells_the_same(database)

    holds()
    assert not WANTED - drawn


def test_events_that_never_came_are_pulled_and_syncs_in_between_change_nothing(
    books: Books,
) -> None:
    drawn: set[str] = set()
    meetings: set[str] = set()

    @settings(max_examples=LIVES_OVER_HTTP)
    @example(FULL_LIVES[0], 1)
    @example(FULL_LIVES[1], 2)
    @example(FULL_LIVES[2], 3)
    @example(FULL_LIVES[3], 4)
    @given(deeds, chances)
    def holds(life: list[Deed], seed: int) -> None:
        chance = random.Random(seed)
        with listening() as url:
            connect(books.dsn, url, KEY)
            books.run(partial(both_ways, url, life, chance))

    async def both_ways(
        url: str, life: list[Deed], chance: random.Random, database: Database
    ) -> None:
        await wipe(database)
        async with post(database, url, chance, meetings) as ours:
            events = await live_at(url, life, ours.meanwhile)
            await ours.catch_up()
            found = await state_of(database, but=VERSIONS)
            await assert_the_ledger_tells_the_same(database)
            await wipe(database)
            await arrive(database, [events])
            await ours.catch_up()
            assert found == await state_of(database, but=VERSIONS)
        drawn.update(map(told, events))

    holds()
    assert not WANTED - drawn
    assert meetings == {"now", "again", "late", "lost", "pull", "sync"}


class Post:
    """How the events of a life come while it is lived: some at once and side by side, some late,
    some twice, some never; between them Stripe's lists are synced, and its events pulled."""

    def __init__(
        self, url: str, reader: StripeReader, sync: Sync, chance: random.Random, meetings: set[str]
    ) -> None:
        self.stripe = httpx.AsyncClient(base_url=url, timeout=60)
        self.reader = reader
        self.sync = sync
        self.chance = chance
        self.meetings = meetings
        self.waiting: Events = []
        self.lost: Events = []

    async def meanwhile(self, new: Events) -> None:
        self.waiting += new
        now: Events = []
        later: Events = []
        for each in self.waiting:
            fate = self.chance.choice(("now", "now", "again", "late", "lost"))
            self.meetings.add(fate)
            now += [each] * (fate in ("now", "again"))
            later += [each] * (fate in ("late", "again"))
            self.lost += [each] * (fate == "lost")
        self.waiting = later
        self.chance.shuffle(now)
        also = self.chance.choice(("nothing", "nothing", "sync", "pull"))
        await self.at_once(now, sync=also == "sync", pull=also == "pull")

    async def catch_up(self) -> None:
        """All that is left comes, but for what is lost: while that is listed, it is pulled."""
        listed = (await self.stripe.get("/_sandbox/health")).json()["now"] - 29 * DAY
        coming = self.waiting + [each for each in self.lost if each["created"] < listed]
        self.waiting, self.lost = [], []
        self.chance.shuffle(coming)
        await self.at_once(coming, sync=True, pull=True)
        await self.at_once([], sync=False, pull=True)
        await self.at_once([], sync=True, pull=False)
        await settle_all(self.reader)

    async def at_once(self, events: Events, *, sync: bool, pull: bool) -> None:
        database = self.reader.database
        work = [arrive(database, (events[lane::3] for lane in range(3)))]
        if sync:
            self.meetings.add("sync")
            work.append(self.synced())
        if pull:
            self.meetings.add("pull")
            work.append(self.pulled())
        await asyncio.gather(*work)

    async def synced(self) -> None:
        assert (await self.sync.run("test")).connection.last_sync_status == "succeeded"

    async def pulled(self) -> None:
        await pull_due(Ledger(self.reader.database), self.reader.gateway, "test", every=None)


@asynccontextmanager
async def post(
    database: Database, url: str, chance: random.Random, meetings: set[str]
) -> AsyncIterator[Post]:
    here = SecretStr("postgresql://localhost/open_already")
    given = {"database_url": here, "jwt_secret": SecretStr(JWT_SECRET)}
    secrets = SecretStore(database, Settings(**given, _env_file=None))
    gateway = Gateway(secrets.stripe_key, url)
    sync = Sync(database, gateway, Connections(database, secrets))
    ours = Post(url, StripeReader(database, gateway, "test"), sync, chance, meetings)
    try:
        async with ours.stripe:
            yield ours
    finally:
        await sync.close()
        await gateway.close()


async def arrive(database: Database, lanes: Iterable[Events]) -> None:
    """Events on several connections, side by side."""

    async def lane(events: Events) -> None:
        assert_all_applied([await apply_one(database, each) for each in events])

    await asyncio.gather(*map(lane, lanes))


async def wipe(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(WIPE)


async def assert_the_ledger_tells_the_same(database: Database) -> None:
    """The ledger has its events in the order in which they came."""
    rebuilt = await rebuild(database, "test", RebuildOrder())
    assert [each for each in rebuilt.tables if each.different] == []
