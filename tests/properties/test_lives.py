"""Whatever customers do, and however its events arrive: the same rows (design I3)."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from lives import Deed, deeds, live
from test_order import WIPE, assert_all_applied

from billhook.db import Database
from billhook.models import RebuildOrder, Rebuilt
from billhook.rebuild import rebuild
from books import Books, final_state

QUICK = 20


def test_any_life_ends_in_the_same_rows_in_any_order_and_on_many_connections(books: Books) -> None:
    # A life costs a sandbox and two truncations: the quick profile draws a few, nightly all.
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


def rebuilt(books: Books) -> Rebuilt:
    """The ledger, which has its events in the order in which they came, tells the same rows."""

    async def work(database: Database) -> Rebuilt:
        return await rebuild(database, "test", RebuildOrder())

    return books.run(work)
