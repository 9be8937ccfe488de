"""MRR and its movements are the same in any order of events, and add up."""

from __future__ import annotations

import itertools
from collections import defaultdict
from datetime import UTC, date, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from test_order import assert_all_applied

import stripe_events as stripe
from books import WIPE, Books
from depth import by_depth

EXAMPLES = by_depth(25, 300, 5000)
DAY = 86400
AMOUNTS = (0, 1000, 2500, 9900)
STATUSES = ("active", "active", "past_due", "trialing", "canceled", "unpaid")

Events = list[dict[str, Any]]


def subscription(name: str, customer: str, currency: str, **more: Any) -> dict[str, Any]:
    amount = more.pop("amount")
    price = {"id": "price_1", "unit_amount": amount, "currency": currency}
    price["recurring"] = {"interval": "month", "interval_count": 1}
    return {
        "id": name,
        "object": "subscription",
        "customer": customer,
        "currency": currency,
        "created": stripe.T0,
        "items": {"data": [{"id": f"si_{name}", "price": price, "quantity": 1}]},
        "metadata": {},
        "discounts": [],
        **more,
    }


@st.composite
def lives(draw: st.DrawFn) -> list[Events]:
    """The events of a few subscriptions of two customers: each change once, some within one
    second, each with what it changed."""
    found = []
    for number in range(draw(st.integers(1, 4))):
        name, customer = f"sub_{number}", draw(st.sampled_from(["cus_1", "cus_2"]))
        currency = draw(st.sampled_from(["usd", "usd", "eur"]))
        at = draw(st.integers(0, 3)) * DAY
        was = subscription(name, customer, currency, amount=1000, status="incomplete")
        was["created"] = stripe.T0 + at
        events = [stripe.event("customer.subscription.created", was, at=at)]
        for _ in range(draw(st.integers(1, 5))):
            at += draw(st.sampled_from([0, 1, DAY // 2, DAY, 3 * DAY]))
            now = subscription(
                name,
                customer,
                currency,
                amount=draw(st.sampled_from(AMOUNTS)),
                status=draw(st.sampled_from(STATUSES)),
            )
            now["created"] = was["created"]
            changed = {key: was[key] for key in ("items", "status") if was[key] != now[key]}
            events.append(
                stripe.event("customer.subscription.updated", now, at=at, previous=changed)
            )
            was = now
        found.append(events)
    return found


def movements(books: Books) -> list[dict[str, Any]]:
    return books.rows(
        "SELECT customer_id, currency, day, kind, amount, mrr FROM payments.mrr_movements"
        " ORDER BY customer_id, currency, day"
    )


def worth(event: dict[str, Any]) -> int:
    shown = event["data"]["object"]
    paid = shown["status"] in ("active", "past_due")
    return shown["items"]["data"][0]["price"]["unit_amount"] if paid else 0


def day_of(at: int) -> date:
    return datetime.fromtimestamp(at, UTC).date()


def expected(lives: list[Events]) -> list[dict[str, Any]]:
    """Computed from the events in their real order."""
    at_end_of: dict[tuple[str, str], dict[date, dict[str, int]]] = defaultdict(dict)
    for life in lives:
        for event in life:
            shown = event["data"]["object"]
            day = day_of(event["created"])
            of = at_end_of[shown["customer"], shown["currency"]]
            of.setdefault(day, {})[shown["id"]] = worth(event)
    found = []
    for (customer, currency), days in sorted(at_end_of.items()):
        now: dict[str, int] = {}
        total, ever = 0, False
        for day in sorted(days):
            now |= days[day]
            before, total = total, sum(now.values())
            if total == before:
                continue
            if before == 0:
                kind = "reactivation" if ever else "new"
            elif total == 0:
                kind = "churn"
            else:
                kind = "expansion" if total > before else "contraction"
            ever = True
            found.append(
                {"customer_id": customer, "currency": currency, "day": day, "kind": kind}
                | {"amount": total - before, "mrr": total}
            )
    return found


def test_movements_are_those_that_happened_in_any_order_and_in_batches_of_any_size(
    books: Books,
) -> None:
    @settings(max_examples=EXAMPLES)
    @given(lives(), st.randoms(), st.lists(st.integers(1, 8), min_size=1))
    def holds(told: list[Events], chance: Any, sizes: list[int]) -> None:
        books.execute(WIPE)
        events = [event for life in told for event in life]
        chance.shuffle(events)
        books.apply_in_batches(events, sizes)
        assert movements(books) == expected(told)
        if books.rows("SELECT FROM billhook.refreshes WHERE reason LIKE 'several changes%'"):
            return  # the subscriptions are still to be fetched
        now = books.rows("""
            SELECT customer_id, currency, sum(amount)::bigint AS mrr FROM payments.mrr_movements
            GROUP BY 1, 2 HAVING sum(amount) <> 0 ORDER BY 1, 2
        """)
        assert now == books.rows("""
            SELECT customer_id, currency, sum(mrr)::bigint AS mrr FROM payments.stripe_subscriptions
            GROUP BY 1, 2 HAVING sum(mrr) <> 0 ORDER BY 1, 2
        """)

    holds()


def test_repeated_events_change_nothing(books: Books) -> None:
    @settings(max_examples=EXAMPLES // 5)
    @given(lives(), st.randoms())
    def holds(told: list[Events], chance: Any) -> None:
        books.execute(WIPE)
        events = [event for life in told for event in life] * 2
        chance.shuffle(events)
        assert_all_applied(books.apply(*events))
        assert movements(books) == expected(told)

    holds()


def fetches(life: Events) -> list[tuple[dict[str, Any], int]]:
    """What Stripe answered between the events, and when."""
    times = [event["created"] for event in life[1:]] + [life[-1]["created"] + DAY]
    return [
        (event["data"]["object"], event["created"] + 5)
        for event, following in zip(life, times, strict=True)
        if event["created"] + 5 < following
    ]


def test_what_is_fetched_between_events_changes_no_movement(books: Books) -> None:
    @settings(max_examples=EXAMPLES)
    @given(lives(), st.randoms())
    def holds(told: list[Events], chance: Any) -> None:
        books.execute(WIPE)
        facts: list[Any] = [event for life in told for event in life]
        facts += [each for life in told for each in fetches(life) if chance.random() < 0.5]
        chance.shuffle(facts)
        for fact in facts:
            apply(books, fact)
        assert movements(books) == expected(told)

    holds()


def test_a_fetched_state_ends_what_came_before_it_in_any_order(books: Books) -> None:
    """The event that did so is missing, and Stripe answered what the first event had said."""
    first = subscription("sub_1", "cus_1", "usd", amount=1000, status="active")
    second = subscription("sub_1", "cus_1", "usd", amount=2500, status="active")
    created = stripe.event("customer.subscription.created", first)
    changed = stripe.event("customer.subscription.updated", second, at=3 * DAY)
    for order in itertools.permutations([created, changed, (first, stripe.T0 + 5 * DAY)]):
        books.execute(WIPE)
        for fact in order:
            apply(books, fact)
        assert [(each["amount"], each["mrr"]) for each in movements(books)] == [
            (1000, 1000),
            (1500, 2500),
            (-1500, 1000),
        ]


def apply(books: Books, fact: Any) -> None:
    """An event, or an object and when it was fetched."""
    if isinstance(fact, tuple):
        books.fetch("subscription", *fact)
    else:
        assert_all_applied(books.apply(fact))


def test_the_past_that_an_event_tells_is_after_its_own_discounts(books: Books) -> None:
    """As they were before the event."""
    books.execute("INSERT INTO billhook.discounts VALUES ('test', 'di_1', '50', NULL, NULL, true)")
    now = subscription("sub_1", "cus_1", "usd", amount=3000, status="active")
    previous = {"discounts": ["di_1"]}
    told = stripe.event("customer.subscription.updated", now, at=9 * DAY, previous=previous)
    assert_all_applied(books.apply(told))
    assert [(each["amount"], each["mrr"]) for each in movements(books)] == [
        (1500, 1500),
        (1500, 3000),
    ]


def test_a_discount_counts_from_its_beginning_on_whenever_it_is_fetched(books: Books) -> None:
    """Until then, only its id is known."""
    now = subscription("sub_1", "cus_1", "usd", amount=3000, status="active", discounts=["di_1"])
    later = now | {"discounts": []}
    events = [
        stripe.event("customer.subscription.created", now),
        stripe.event(
            "customer.subscription.updated", later, at=9 * DAY, previous={"discounts": ["di_1"]}
        ),
    ]
    coupon = {"id": "c_1", "duration": "forever", "percent_off": 50}
    full = now | {"discounts": [{"id": "di_1", "source": {"coupon": coupon}}]}

    def first() -> None:
        books.fetch("subscription", full, stripe.T0 + 5 * DAY)
        assert_all_applied(books.apply(*events))

    def last() -> None:
        assert_all_applied(books.apply(*reversed(events)))
        books.fetch("subscription", full, stripe.T0 + 5 * DAY)

    for order in (first, last):
        books.execute(WIPE)
        order()
        assert [(each["amount"], each["mrr"]) for each in movements(books)] == [
            (1500, 1500),
            (1500, 3000),
        ]
        assert books.row("SELECT mrr FROM payments.stripe_subscriptions") == {"mrr": 3000}


def test_more_items_than_an_event_shows_count_all_together_once_they_are_fetched(
    books: Books,
) -> None:
    """Stripe's events contain the first ten."""
    shown = subscription("sub_1", "cus_1", "usd", amount=1000, status="active")
    (item,) = shown["items"]["data"]
    items = [item | {"id": f"si_{number}"} for number in range(12)]
    first = shown | {"items": {"data": items[:10], "has_more": True}}
    assert_all_applied(books.apply(stripe.event("customer.subscription.created", first)))
    assert movements(books) == []
    assert books.row("SELECT mrr FROM payments.stripe_subscriptions") == {"mrr": None}
    books.fetch("subscription", shown | {"items": {"data": items}}, stripe.T0 + 2)
    assert [(each["kind"], each["amount"]) for each in movements(books)] == [("new", 12000)]


def test_an_event_does_not_say_what_more_items_than_it_shows_were_worth(books: Books) -> None:
    now = subscription("sub_1", "cus_1", "usd", amount=1000, status="active")
    (item,) = now["items"]["data"]
    ten = {"data": [item | {"id": f"si_{number}"} for number in range(10)], "has_more": True}
    now["items"]["has_more"] = False
    told = stripe.event("customer.subscription.updated", now, at=DAY, previous={"items": ten})
    assert_all_applied(books.apply(told))
    assert [(each["kind"], each["amount"]) for each in movements(books)] == [("new", 1000)]


def test_a_subscription_that_was_only_fetched_has_the_past_that_it_shows(books: Books) -> None:
    began = stripe.T0
    life = {"created": began, "trial_end": began + 7 * DAY, "status": "canceled"}
    life |= {"canceled_at": began + 40 * DAY, "ended_at": began + 60 * DAY}
    ended = subscription("sub_1", "cus_1", "usd", amount=3000, **life)
    books.fetch("subscription", ended, began + 90 * DAY)
    kinds = [(each["kind"], each["amount"]) for each in movements(books)]
    assert kinds == [("new", 3000), ("churn", -3000)]
    days = [(each["day"] - day_of(began)).days for each in movements(books)]
    assert days == [7, 40]
    # What events of that time say takes precedence.
    trial = ended | {"status": "trialing", "canceled_at": None, "ended_at": None}
    paid = trial | {"status": "active"}
    assert_all_applied(
        books.apply(
            stripe.event("customer.subscription.created", trial, id="evt_1"),
            stripe.event(
                "customer.subscription.updated",
                paid,
                at=8 * DAY,
                previous={"status": "trialing"},
            ),
        )
    )
    days = [(each["day"] - day_of(began)).days for each in movements(books)]
    assert days == [8, 90]
