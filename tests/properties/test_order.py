"""Any order, any number of times: the same rows."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from books import WIPE, Books, final_state
from depth import by_depth
from stripe_lives import IN_A_RING, LIFE

EXAMPLES = by_depth(8, 100, 2000)


@st.composite
def deliveries(draw: st.DrawFn) -> list[dict[str, Any]]:
    """The same events, each one to three times, in any order."""
    times = draw(st.lists(st.integers(1, 3), min_size=len(LIFE), max_size=len(LIFE)))
    return draw(st.permutations([e for e, n in zip(LIFE, times, strict=True) for _ in range(n)]))


def assert_all_applied(answers: list[Any]) -> None:
    assert not [answer for answer in answers if isinstance(answer, Exception)]


def test_any_order_and_repetition_of_events_ends_in_the_same_rows(books: Books) -> None:
    assert_all_applied(books.apply(*LIFE))
    expected = final_state(books)
    assert len(expected["transactions"]) == 6

    @settings(max_examples=EXAMPLES)
    @given(deliveries())
    def holds(shuffled: list[dict[str, Any]]) -> None:
        books.execute(WIPE)
        assert_all_applied(books.apply(*shuffled))
        assert final_state(books) == expected

    holds()


def test_batches_of_any_size_end_in_the_same_rows(books: Books) -> None:
    assert_all_applied(books.apply(*LIFE))
    expected = final_state(books)

    @settings(max_examples=EXAMPLES)
    @given(deliveries(), st.lists(st.integers(1, 32), min_size=1))
    def holds(shuffled: list[dict[str, Any]], sizes: list[int]) -> None:
        books.execute(WIPE)
        books.apply_in_batches(shuffled, sizes)
        assert final_state(books) == expected

    holds()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_changes_of_one_second_that_lead_back_are_shown_as_they_ended_or_refreshed(
    books: Books, order: tuple[int, ...]
) -> None:
    """Each says that it came after another: a ring has no end."""
    assert_all_applied(books.apply(*(IN_A_RING[each] for each in order)))
    (shown,) = books.row("SELECT name FROM payments.stripe_products").values()
    refreshes = books.rows("SELECT object_type, object_id FROM billhook.refreshes")
    assert shown == "Tea" or refreshes == [{"object_type": "product", "object_id": "tea"}]


def test_two_changes_of_one_second_ask_stripe_nothing(books: Books) -> None:
    for events in (IN_A_RING[:2], IN_A_RING[1::-1]):
        books.execute(WIPE)
        assert_all_applied(books.apply(*events))
        assert books.row("SELECT name FROM payments.stripe_products") == {"name": "Mate"}
        assert books.rows("SELECT * FROM billhook.refreshes") == []


def test_events_at_once_on_many_connections_end_in_the_same_rows(books: Books) -> None:
    assert_all_applied(books.apply(*LIFE))
    expected = final_state(books)

    @settings(max_examples=EXAMPLES)
    @given(deliveries(), st.integers(2, 8))
    def holds(shuffled: list[dict[str, Any]], lanes: int) -> None:
        books.execute(WIPE)
        assert_all_applied(books.apply_at_once(shuffled[lane::lanes] for lane in range(lanes)))
        assert final_state(books) == expected

    holds()
