"""Any order, any number of times: the same rows (design I3)."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from books import Books, final_state
from stripe_lives import LIFE

WIPE = """
    TRUNCATE payments.stripe_products, payments.stripe_prices, payments.customers,
        payments.customer_mappings, payments.stripe_subscriptions,
        payments.stripe_subscription_items, payments.webhook_events, payments.transactions,
        billhook.tombstones, billhook.refreshes, billhook.customer_claims,
        billhook.payment_refs, billhook.payment_sources, billhook.payment_refunds,
        billhook.fetched_payments;
    DELETE FROM billhook.syncs;
    UPDATE billhook.pulls SET since = '2020-01-01', cursor_at = '2020-01-01';
"""


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

    @given(deliveries())
    def holds(shuffled: list[dict[str, Any]]) -> None:
        books.execute(WIPE)
        assert_all_applied(books.apply(*shuffled))
        assert final_state(books) == expected

    holds()


def test_events_at_once_on_many_connections_end_in_the_same_rows(books: Books) -> None:
    assert_all_applied(books.apply(*LIFE))
    expected = final_state(books)

    @given(deliveries(), st.integers(2, 8))
    def holds(shuffled: list[dict[str, Any]], lanes: int) -> None:
        books.execute(WIPE)
        assert_all_applied(books.apply_at_once(shuffled[lane::lanes] for lane in range(lanes)))
        assert final_state(books) == expected

    holds()
