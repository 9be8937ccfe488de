"""Whatever customers do, and however its events arrive: the same rows (design I3)."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
from hypothesis import given, settings
from hypothesis import strategies as st
from lives import KEY, Deed, deeds, listening, live, live_at
from pydantic import SecretStr
from test_order import WIPE, assert_all_applied

from api import connect
from billhook.connections import Connections
from billhook.db import Database
from billhook.mirror import Asking
from billhook.models import RebuildOrder, Rebuilt
from billhook.rebuild import rebuild
from billhook.recovery.pulling import pull_due
from billhook.refreshes import settle_all
from billhook.secrets import SecretStore
from billhook.settings import Settings
from billhook.stripe.gateway import Gateway
from billhook.sync import Sync
from books import Books, apply_one, final_state
from http_tokens import JWT_SECRET

# A hundred lives together.
QUICK = 60
QUICK_OVER_HTTP = 40
# What was fetched is shown with another version than what an event said, and in other detail.
VERSIONS = (
    "raw",
    "provider_event_at",
    "provider_event_rank",
    "provider_event_id",
    "provider_event_previous",
)


def test_any_life_ends_in_the_same_rows_in_any_order_and_on_many_connections(books: Books) -> None:
    most = settings.default.max_examples if settings.default else QUICK
    examples = most if most > 100 else QUICK

    @settings(max_examples=examples)
    @given(deeds, st.randoms(use_true_random=False), st.integers(1, 4))
    def holds(life: list[Deed], chance: random.Random, lanes: int) -> None:
        events = live(life)
        books.execute(WIPE)
        assert_all_applied(books.apply(*events))
        expected = final_state(books)
        shuffled = events + chance.sample(events, len(events) // 3)
        chance.shuffle(shuffled)
        books.execute(WIPE)
        assert_all_applied(books.apply_at_once(shuffled[lane::lanes] for lane in range(lanes)))
        assert final_state(books) == expected
        assert all(each.different == 0 for each in rebuilt(books).tables)

    holds()


def test_events_that_never_came_are_pulled_and_syncs_in_between_change_nothing(
    books: Books,
) -> None:
    most = settings.default.max_examples if settings.default else QUICK_OVER_HTTP

    @settings(max_examples=most if most > 100 else QUICK_OVER_HTTP)
    @given(deeds, st.randoms(use_true_random=False))
    def holds(life: list[Deed], chance: random.Random) -> None:
        with listening() as url:
            connect(books.dsn, url, KEY)
            events = live_at(url, life)
            books.execute(WIPE)
            caught_up(books, url, [events])
            expected = final_state(books, but=VERSIONS)
            books.execute(WIPE)
            # What Stripe lists no longer cannot be pulled: that is a gap, and told as one.
            listed = httpx.get(f"{url}/_sandbox/health").json()["now"] - 29 * 86400
            came = [each for each in events if each["created"] < listed or chance.random() < 0.6]
            chance.shuffle(came)
            caught_up(books, url, [came[lane::3] for lane in range(3)])
            assert final_state(books, but=VERSIONS) == expected
            assert all(each.different == 0 for each in rebuilt(books).tables)

    holds()


def caught_up(books: Books, url: str, lanes: list[list[dict[str, Any]]]) -> None:
    """Events arrive on several connections, while Stripe is synced and its events are pulled."""

    async def work(database: Database) -> None:
        given = {"database_url": SecretStr(books.dsn), "jwt_secret": SecretStr(JWT_SECRET)}
        secrets = SecretStore(database, Settings(**given, _env_file=None))
        gateway = Gateway(secrets.stripe_key, url)
        sync = Sync(database, gateway, Connections(database, secrets))

        async def lane(events: list[dict[str, Any]]) -> None:
            assert_all_applied([await apply_one(database, each) for each in events])

        try:
            await asyncio.gather(
                *map(lane, lanes),
                sync.run("test"),
                pull_due(database, gateway, "test", every=None),
            )
            await pull_due(database, gateway, "test", every=None)
            assert (await sync.run("test")).connection.last_sync_status == "succeeded"
            await settle_all(Asking(database, gateway, "test"))
        finally:
            await sync.close()
            await gateway.close()

    books.run(work)


def rebuilt(books: Books) -> Rebuilt:
    """The ledger, which has its events in the order in which they came, tells the same rows."""

    async def work(database: Database) -> Rebuilt:
        return await rebuild(database, "test", RebuildOrder())

    return books.run(work)
