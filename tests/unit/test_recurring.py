"""What a subscription is worth a month: Stripe's definition of MRR, and ours where it has none."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.kinds.recurring import (
    Terms,
    Worth,
    discounted,
    terms_of,
    without_terms,
    worth_before,
    worth_of,
)

MONTH, DAY = 30 * 86400, 86400
CREATED = 1_780_000_000


def item(amount: int = 3000, interval: str = "month", **more: Any) -> dict[str, Any]:
    recurring = {"interval": interval, "interval_count": more.pop("count", 1)}
    recurring["usage_type"] = more.pop("usage_type", "licensed")
    price = {"unit_amount": amount, "currency": "usd", "recurring": recurring}
    price |= more.pop("price", {})
    return {"price": price, "quantity": 1, "current_period_end": CREATED + MONTH, **more}


def subscription(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "sub_1",
        "customer": "cus_1",
        "currency": "usd",
        "status": "active",
        "created": CREATED,
        "items": {"data": list(items or [item()])},
        "discounts": [],
        **more,
    }


def found(*items: dict[str, Any], **more: Any) -> Worth:
    worth = worth_of(subscription(*items, **more))
    assert worth is not None
    return worth


@pytest.mark.parametrize(
    ("items", "monthly"),
    [
        ([item(2900)], 2900),
        ([item(2900, quantity=3)], 8700),
        ([item(22800, "year")], 1900),
        ([item(9900, "month", count=3)], 3300),
        ([item(1000, "week")], 4333),  # 52 weeks a year: 4,333.33
        ([item(1000, "week", count=2)], 2167),  # 2,166.67
        ([item(100, "day")], 3042),  # 365 days a year: 3,041.67
        ([item(999, "year")], 83),  # 83.25
        ([item(18, "year")], 2),  # 1.5: a half is rounded up
        ([item(999, "year"), item(999, "year")], 167),  # 166.5: rounded once, not per item
        ([item(2900), item(500, usage_type="metered")], 2900),
        ([item(2900), item(None, price={"billing_scheme": "tiered"})], 2900),
        ([item(None, price={"unit_amount_decimal": "0.5"}, quantity=1001)], 501),
        ([item(1000, quantity=11, price={"transform_quantity": {"divide_by": 5, "round": "up"}})],
         3000),
        ([item(1000, quantity=0)], 0),
        ([item(0)], 0),
        ([item(1000, "fortnight")], 0),
        ([item(10**18)], 10**15),
    ],
)  # fmt: skip
def test_the_monthly_amount_is_that_of_all_items(items: list[dict[str, Any]], monthly: int) -> None:
    assert found(*items).gross == monthly


def test_old_objects_have_a_plan() -> None:
    plan = {"amount": 24000, "currency": "eur", "interval": "year", "interval_count": 2}
    old = worth_of({"customer": "cus_1", "status": "active", "items": {"data": [{"plan": plan}]}})
    assert old is not None
    assert (old.currency, old.gross, old.period_amount) == ("eur", 1000, 24000)


@pytest.mark.parametrize(
    ("state", "counts"),
    [
        ({"status": "active"}, True),
        ({"status": "past_due"}, True),
        ({"status": "trialing"}, False),
        ({"status": "unpaid"}, False),
        ({"status": "canceled"}, False),
        ({"status": "incomplete"}, False),
        ({"status": "paused"}, False),
        ({"cancel_at_period_end": True}, False),
        ({"cancel_at": CREATED + MONTH}, False),  # as Stripe's portal schedules it
        ({"cancel_at": CREATED + 5 * MONTH}, True),  # it renews before
        ({"pause_collection": {"behavior": "void"}}, False),
    ],
)
def test_what_is_paid_and_renews_counts(state: dict[str, Any], counts: bool) -> None:
    worth = found(**state)
    assert worth.gross == (3000 if counts else 0)
    assert (worth.monthly, worth.period_amount) == (3000, 3000)


def test_what_cannot_be_read_has_no_worth() -> None:
    assert worth_of({}) is None
    assert worth_of(subscription(customer=None)) is None
    assert worth_of({"customer": "cus_1", "items": None}) is None
    odd = found({"price": "price_1", "quantity": "2"}, currency="usd")
    assert odd.gross == 0


@pytest.mark.parametrize(
    ("state", "span"),
    [
        ({}, (CREATED, None)),
        ({"trial_end": CREATED + 7 * DAY}, (CREATED + 7 * DAY, None)),
        ({"status": "trialing", "trial_end": CREATED + 7 * DAY}, (None, None)),
        (
            {"status": "canceled", "canceled_at": CREATED + DAY, "ended_at": CREATED + MONTH},
            (CREATED, CREATED + DAY),
        ),
        ({"status": "canceled", "ended_at": CREATED + MONTH}, (CREATED, CREATED + MONTH)),
        (
            {"cancel_at_period_end": True, "canceled_at": CREATED + DAY},
            (CREATED, CREATED + DAY),
        ),
        (
            {
                "status": "canceled",
                "trial_end": CREATED + 7 * DAY,
                "ended_at": CREATED + 7 * DAY,
            },
            (None, None),
        ),
        ({"status": "unpaid"}, (None, None)),
        ({"status": "incomplete_expired"}, (None, None)),
    ],
)
def test_a_state_shows_since_when_it_has_counted(
    state: dict[str, Any], span: tuple[int | None, int | None]
) -> None:
    worth = found(**state)
    assert (worth.counted_from, worth.counted_to) == span


def test_the_state_before_an_event_follows_from_its_previous_attributes() -> None:
    now = subscription(item(5000))
    before = {"items": {"data": [item(3000)]}}
    assert (worth_before(now, before) or found()).gross == 3000
    assert (worth_before(now, {"status": "incomplete"}) or found()).gross == 0
    assert (worth_before(now, {"pause_collection": {"behavior": "void"}}) or found()).gross == 0
    assert worth_before(now, None) is None
    assert (worth_before(now, {"metadata": {"a": "b"}}) or found()).gross == 5000


def coupon(**more: Any) -> dict[str, Any]:
    return {"id": "c_1", "object": "coupon", "duration": "forever", **more}


def discount(name: str, of: object) -> dict[str, Any]:
    return {"id": name, "object": "discount", "source": {"type": "coupon", "coupon": of}}


def net(amount: int, *coupons: dict[str, Any], period: int | None = None) -> int:
    shown = subscription(discounts=[discount(f"di_{n}", c) for n, c in enumerate(coupons)])
    terms = {each.discount_id: each for each in terms_of(shown)}
    ids = [f"di_{n}" for n in range(len(coupons))]
    return discounted(amount, amount if period is None else period, "usd", ids, terms)


@pytest.mark.parametrize(
    ("of", "left"),
    [
        (coupon(percent_off=25), 7500),
        (coupon(percent_off=12.5), 8750),
        (coupon(percent_off=33.33), 6667),
        (coupon(percent_off=100), 0),
        (coupon(amount_off=999, currency="usd"), 9001),
        (coupon(amount_off=99900, currency="usd"), 0),
        (coupon(amount_off=999, currency="eur"), 10000),
        (coupon(percent_off=25, duration="once"), 10000),
        (coupon(percent_off=25, duration="repeating"), 10000),
        ("c_1", 10000),
        (coupon(percent_off="25"), 10000),
    ],
)
def test_only_discounts_that_apply_forever_reduce_it(of: Any, left: int) -> None:
    assert net(10000, of) == left


def test_several_discounts_apply_one_after_the_other() -> None:
    percent, amount = coupon(percent_off=50), coupon(amount_off=1000, currency="usd")
    assert net(10000, percent, amount) == 4000
    assert net(10000, amount, percent) == 4500


def test_an_amount_off_each_year_takes_off_a_twelfth_each_month() -> None:
    assert net(1000, coupon(amount_off=1200, currency="usd"), period=12000) == 900


def test_terms_are_read_from_old_objects_too() -> None:
    old = {**subscription(), "discount": {"id": "di_1", "coupon": coupon(percent_off=10)}}
    del old["discounts"]
    assert terms_of(old) == [Terms("di_1", "10", None, None, True)]
    assert (worth_of(old) or found()).discounts == ("di_1",)


def test_an_object_in_full_becomes_what_events_show() -> None:
    full = subscription(discounts=[discount("di_1", coupon(percent_off=10))])
    assert without_terms(full) == subscription(discounts=["di_1"])
    assert without_terms(without_terms(full)) == without_terms(full)
    assert found(discounts=["di_1"]).discounts == found(**full).discounts == ("di_1",)


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
odd_price = st.dictionaries(
    st.sampled_from(
        ["unit_amount", "unit_amount_decimal", "recurring", "transform_quantity", "currency"]
    ),
    json
    | st.sampled_from(["NaN", "1e999", "-5", "0.1"])
    | st.fixed_dictionaries({"interval": json, "interval_count": json, "divide_by": json}),
)


@given(st.lists(odd_price, max_size=3), json, json)
def test_whatever_stripe_sends_can_be_read(
    prices: list[Any], quantity: Any, discounts: Any
) -> None:
    items = [{"price": price, "quantity": quantity} for price in prices]
    odd = subscription(*items, discounts=discounts) if items else {"discounts": discounts}
    worth_of(odd)
    terms_of(odd)
    worth_before(odd, {"items": discounts})
    without_terms(odd)
