"""A life of which the first part happened before the account was connected, and the rest arrives as
events, ends in the rows of a life that was seen wholly by events."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import orjson
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lives import FULL_LIVES, KEY, Deed, deeds, listening, live_at
from pydantic import SecretStr
from test_lives import (
    VERSIONS,
    Events,
    Post,
    arrive,
    assert_the_ledger_tells_the_same,
    chances,
    wipe,
)

from api import connect
from billhook.access.secrets import SecretStore
from billhook.account.connections import Connections
from billhook.mirror.fetching import StripeReader
from billhook.mirror.history import History
from billhook.mirror.refreshes import settle_all
from billhook.mirror.sync import Sync
from billhook.postgres import Database
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from books import Books, state_of
from depth import by_depth
from http_tokens import JWT_SECRET

LIVES = by_depth(4, 60, 2000)
# What is left of a past that nobody saw: other objects of the customer may be gone.
COMPARED = ("transactions", "customer_mappings")
_SUMS = """
SELECT currency, sum(CASE WHEN type = 'refund' THEN -amount
    -- Stripe withdraws the amount of an open dispute, but not of an inquiry.
    WHEN dispute_status LIKE 'warning%' THEN amount - amount_lost
    ELSE amount - amount_disputed END)::bigint
FROM payments.transactions
WHERE CASE type WHEN 'refund' THEN status = 'refunded'
    ELSE status IN ('succeeded', 'refunded', 'partially_refunded') END
GROUP BY 1
"""


def test_a_past_that_is_imported_and_a_life_seen_by_events_end_in_the_same_rows(
    books: Books,
) -> None:
    meetings: set[str] = set()

    @settings(max_examples=LIVES)
    @example(FULL_LIVES[0], 3, 1)
    @example(FULL_LIVES[1], 6, 2)
    @example(FULL_LIVES[2], 5, 3)
    @example(FULL_LIVES[3], 4, 4)
    @given(deeds, st.integers(0, 9), chances)
    def holds(life: list[Deed], unseen: int, seed: int) -> None:
        chance = random.Random(seed)
        with listening() as url:
            connect(books.dsn, url, KEY)
            books.run(partial(both_ways, url, life, unseen, chance))

    async def both_ways(
        url: str, life: list[Deed], unseen: int, chance: random.Random, database: Database
    ) -> None:
        await wipe(database)
        await database.execute("DELETE FROM billhook.imports")
        async with late_post(database, url, chance, meetings, unseen) as ours:
            events = await live_at(url, life, ours.meanwhile)
            await ours.catch_up()
            found = await state_of(database, but=VERSIONS)
            await assert_the_ledger_tells_the_same(database)
            assert await sums(database) == await ours.balance()
            await wipe(database)
            await arrive(database, [events])
            await ours.caught_up()
            expected = await state_of(database, but=VERSIONS)
        for table in COMPARED:
            assert differences(found[table], expected[table]) == []

    holds()
    assert {"import", "import again", "unseen", "now", "late", "again"} <= meetings


def known(row: str) -> dict[str, Any]:
    """A row, without what Stripe no longer tells: of a paid invoice, it does not say for certain
    that it could not be paid at first; then its PaymentIntent says when."""
    found: dict[str, Any] = orjson.loads(row)
    if found.get("paid_at"):
        found["failed_at"] = found["failed_at"] is not None
    return found


def differences(found: list[str], expected: list[str]) -> list[dict[str, Any]]:
    """The columns in which rows differ, in the order of Stripe's ids."""
    both = [
        {each.get("provider_object_id") or each["provider_customer_id"]: each for each in rows}
        for rows in (map(known, found), map(known, expected))
    ]
    return [
        {
            name: (one.get(name), other.get(name))
            for name in ("provider_object_id", *(one | other))
            if name == "provider_object_id" or one.get(name) != other.get(name)
        }
        for key in sorted(both[0] | both[1])
        if (one := both[0].get(key, {})) != (other := both[1].get(key, {}))
    ]


async def sums(database: Database) -> dict[str, int]:
    async with database.connection() as connection:
        rows = await connection.fetch(_SUMS)
    return {currency: total for currency, total in rows if total}


class LatePost(Post):
    """The events of a life after its first deeds, which nobody saw; between them, the history is
    imported."""

    def __init__(self, history: History, unseen: int, *rest: Any) -> None:
        super().__init__(*rest)
        self.history = history
        self.unseen = unseen
        self.imports = 0

    async def meanwhile(self, new: Events) -> None:
        if self.unseen > 0:
            self.unseen -= 1
            self.meetings.add("unseen")
            return
        await super().meanwhile(new)

    async def at_once(self, events: Events, *, sync: bool, pull: bool) -> None:
        work = [super().at_once(events, sync=sync, pull=False)]
        if self.chance.choice((True, False, False)):
            work.append(self.imported())
        await asyncio.gather(*work)

    async def imported(self) -> None:
        self.meetings.add("import again" if self.imports else "import")
        self.imports += 1
        assert (await self.history.run("test")).status == "finished"

    async def catch_up(self) -> None:
        coming = [*self.waiting, *self.lost]
        self.waiting, self.lost = [], []
        self.chance.shuffle(coming)
        await self.at_once(coming, sync=True, pull=False)
        await self.imported()
        await self.caught_up()

    async def caught_up(self) -> None:
        await self.synced()
        await settle_all(self.reader)
        await self.synced()
        await settle_all(self.reader)

    async def balance(self) -> dict[str, int]:
        """What Stripe holds of each currency, without its fees."""
        total: Counter[str] = Counter()
        more: dict[str, str] = {}
        while True:
            asked = {"limit": "100", **more}
            answer = await self.stripe.get("/v1/balance_transactions", params=asked, auth=(KEY, ""))
            page = answer.raise_for_status().json()
            for each in page["data"]:
                total[each["currency"]] += each["amount"]
            if not page["has_more"]:
                return {currency: amount for currency, amount in total.items() if amount}
            more = {"starting_after": page["data"][-1]["id"]}


@asynccontextmanager
async def late_post(
    database: Database, url: str, chance: random.Random, meetings: set[str], unseen: int
) -> AsyncIterator[LatePost]:
    here = SecretStr("postgresql://localhost/open_already")
    given = {"database_url": here, "jwt_secret": SecretStr(JWT_SECRET)}
    secrets = SecretStore(database, Settings(**given, _env_file=None))
    gateway = Gateway(secrets.stripe_key, url)
    sync = Sync(database, gateway, Connections(database, secrets))
    history = History(database, gateway)
    reader = StripeReader(database, gateway, "test")
    ours = LatePost(history, unseen, url, reader, sync, chance, meetings)
    try:
        async with ours.stripe:
            yield ours
    finally:
        await sync.close()
        await gateway.close()
