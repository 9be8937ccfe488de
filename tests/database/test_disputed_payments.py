"""Disputes in columns of their payment: what is at stake, and what was lost."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from billhook.kinds import KINDS
from billhook.mirror.fetching import facts_of
from billhook.mirror.rebuild import rebuild
from billhook.models import CurrencyFigures, RebuildOrder
from billhook.reports.overview import overview
from billhook.rows import apply_facts
from books import WIPE, Books
from stripe_events import T0, charge, dispute, event, payment_intent

OPEN = ("needs_response", "under_review")
COLUMNS = "amount_disputed, amount_lost, dispute_status, dispute_reason, amount, status"


def paid() -> dict[str, Any]:
    return event("payment_intent.succeeded", payment_intent(amount=1500, amount_received=1500))


def shown(books: Books) -> dict[str, Any]:
    return books.row(f"SELECT {COLUMNS} FROM payments.transactions")


def opened(name: str = "dp_1", at: int = 200, **more: Any) -> dict[str, Any]:
    return event("charge.dispute.created", dispute(name, **more), at=at)


def closed(status: str, name: str = "dp_1", at: int = 300, **more: Any) -> dict[str, Any]:
    return event("charge.dispute.closed", dispute(name, status=status, **more), at=at)


def test_an_open_dispute_shows_on_its_payment(books: Books) -> None:
    books.apply(paid(), opened(amount=900))
    assert shown(books) == {
        "amount_disputed": 900,
        "amount_lost": 0,
        "dispute_status": "needs_response",
        "dispute_reason": "fraudulent",
        "amount": 1500,
        "status": "succeeded",
    }
    times = books.row("SELECT dispute_due_by, disputed_at FROM payments.transactions")
    assert times == {
        "dispute_due_by": datetime.fromtimestamp(T0 + 1_000_000, UTC),
        "disputed_at": datetime.fromtimestamp(T0 + 200, UTC),
    }


@pytest.mark.parametrize(
    ("status", "disputed", "lost"),
    [
        ("lost", 900, 900),
        ("won", 0, 0),
        ("warning_closed", 0, 0),
        ("prevented", 0, 0),
        ("under_review", 900, 0),
    ],
)
def test_only_a_lost_dispute_costs_money(
    books: Books, status: str, disputed: int, lost: int
) -> None:
    books.apply(paid(), opened(amount=900), closed(status, amount=900))
    row = shown(books)
    assert (row["amount_disputed"], row["amount_lost"]) == (disputed, lost)
    assert row["dispute_status"] == status
    due = books.row("SELECT dispute_due_by AS due FROM payments.transactions")["due"]
    assert (due is None) == (status != "under_review")


def test_any_order_ends_in_the_same_row(books: Books) -> None:
    events = [
        paid(),
        event("charge.succeeded", charge(amount=1500, payment_intent="pi_1")),
        opened(amount=900),
        closed("lost", at=200, amount=900),
        opened("dp_2", at=250, amount=100),
    ]
    ends = []
    for order in itertools.permutations(events):
        books.execute(WIPE)
        books.apply(*order)
        ends.append(shown(books))
    assert ends[0]["amount_disputed"] == 1000
    assert ends[0]["amount_lost"] == 900
    assert all(end == ends[0] for end in ends)


def test_a_dispute_in_the_buyers_currency_is_converted(books: Books) -> None:
    presented = payment_intent(
        amount=1500,
        amount_received=1500,
        currency="eur",
        presentment_details={"presentment_amount": 3000, "presentment_currency": "usd"},
    )
    books.apply(
        event("payment_intent.succeeded", presented),
        closed("lost", amount=1000, currency="usd"),
    )
    assert shown(books)["amount_lost"] == 500


def test_a_fetched_dispute_shows_and_a_rebuild_keeps_it(books: Books) -> None:
    books.apply(paid())
    lost = facts_of(KINDS["dispute"], [dispute(status="lost")], T0 + 500)

    async def write(database: Any) -> None:
        async with database.as_service() as connection:
            await apply_facts(connection, "test", lost, outside_ledger=True)

    books.run(write)
    assert shown(books)["amount_lost"] == 1500
    found = books.run(lambda database: rebuild(database, "test", RebuildOrder(swap=True)))
    assert [each for each in found.tables if each.different] == []
    assert shown(books)["amount_lost"] == 1500


def test_a_dispute_that_came_before_its_payment_shows_with_it(books: Books) -> None:
    books.apply(closed("lost"))
    assert books.rows("SELECT FROM payments.transactions") == []
    books.apply(paid())
    assert shown(books)["amount_lost"] == 1500


def test_a_lost_dispute_leaves_the_revenue_of_the_day_of_the_dispute(books: Books) -> None:
    books.apply(paid(), closed("lost", amount=900))
    day = datetime.fromtimestamp(T0 + 200, UTC).date()

    def figures(until: date) -> CurrencyFigures:
        (found,) = books.run(lambda database: overview(database, "test", 2, until)).currencies
        return found

    total = figures(day).total
    assert (total.payments, total.lost, total.disputes_lost) == (1500, 900, 1)
    (of_day,) = [each for each in figures(day).days if each.day == day]
    assert of_day.lost == 900
    later = figures(day + timedelta(days=2))
    assert (later.total.lost, later.previous.lost) == (0, 900)


def test_a_dispute_that_was_fetched_again_is_rebuilt_as_it_is(books: Books) -> None:
    books.apply(paid(), opened(amount=900))
    for at in (500, 900):
        books.fetch("dispute", dispute(status="lost", amount=900), T0 + at)
    found = books.run(lambda database: rebuild(database, "test", RebuildOrder()))
    assert [each for each in found.tables if each.different] == []
    assert shown(books)["amount_lost"] == 900


def test_a_payment_shows_the_state_of_its_dispute_that_the_mirror_shows(books: Books) -> None:
    needed, reviewed = (opened(amount=900, status=status) for status in OPEN)
    reviewed |= {"type": "charge.dispute.updated"}
    again = opened(amount=900, status="needs_response") | {"type": "charge.dispute.updated"}
    reviewed["data"]["previous_attributes"] = {"status": "needs_response"}
    again["data"]["previous_attributes"] = {"status": "under_review"}
    for order in itertools.permutations([needed, reviewed, again]):
        books.execute(WIPE)
        books.apply(paid(), *order)
        mirrored = books.row("SELECT status FROM payments.stripe_disputes")["status"]
        assert shown(books)["dispute_status"] == mirrored


def test_a_dispute_that_does_not_exist_at_stripe_leaves_its_payment(books: Books) -> None:
    books.apply(paid(), closed("lost"))
    books.delete("dispute", "dp_1", T0 + 900)
    assert (shown(books)["amount_lost"], shown(books)["dispute_status"]) == (0, None)
