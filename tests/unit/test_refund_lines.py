"""What a refund of lines returns: exact in sum, whatever the steps."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billhook.checkout.refund_lines import (
    Line,
    Returned,
    amounts_of,
    checkout_line,
    invoice_line,
    returned_for,
    shared,
)
from billhook.checkout.refund_target import NotRefundable
from billhook.errors import InvalidInput
from billhook.models import RefundLineItem

AMOUNTS = st.integers(-10_000, 1_000_000)


def line(name: str, amount: int, quantity: int = 1, price: str | None = "price_1") -> Line:
    return Line(name, price, quantity, amount, "eur")


def item(**given: Any) -> RefundLineItem:
    return RefundLineItem.model_validate(given)


@given(st.lists(AMOUNTS, min_size=1, max_size=20), st.integers(0, 2_000_000))
def test_all_lines_together_have_what_was_collected_for_them(
    amounts: list[int], collected: int
) -> None:
    found = shared([line(f"l{n}", amount) for n, amount in enumerate(amounts)], collected, "eur")
    charged = sum(amount for amount in amounts if amount > 0)
    assert sum(each.amount for each in found) == min(charged, collected)
    for each, amount in zip(found, amounts, strict=True):
        assert 0 <= each.amount <= max(amount, 0)


@pytest.mark.parametrize(("currency", "step"), [("isk", 100), ("UGX", 100), ("kwd", 10)])
@given(
    st.lists(st.integers(1, 1000), min_size=1, max_size=5), st.integers(1, 9), st.integers(1, 500)
)
def test_every_refund_is_an_amount_that_stripe_can_return(
    currency: str, step: int, amounts: list[int], quantity: int, collected: int
) -> None:
    """In some currencies, amounts must be multiples of 10 or 100; taxes make others of lines."""
    paid = collected * step
    lines = [Line(f"l{n}", "price_1", quantity, each, currency) for n, each in enumerate(amounts)]
    found = shared(lines, paid, currency)
    assert sum(each.amount for each in found) == min(sum(amounts) // step * step, paid)
    for each in found:
        assert each.amount % step == 0
        returned = 0
        for units in range(quantity):
            with suppress(NotRefundable):  # too little for these units
                part = returned_for(each, None, Returned(units, returned), "x").amount
                assert part % step == 0
                assert part == each.amount - returned
            with suppress(NotRefundable):
                part = returned_for(each, 1, Returned(units, returned), "x").amount
                assert part % step == 0
                returned += part
        assert returned == each.amount


@given(st.integers(1, 100_000), st.integers(1, 200), st.data())
def test_refunding_all_units_in_any_steps_returns_exactly_the_line(
    amount: int, quantity: int, data: st.DataObject
) -> None:
    """Steps that fail in between make no difference either."""
    of = line("l1", amount, quantity)
    live: list[Returned] = []
    while sum(each.quantity for each in live) < quantity:
        if live and data.draw(st.booleans()):
            live.pop(data.draw(st.integers(0, len(live) - 1)))  # it failed
            continue
        before = Returned(sum(e.quantity for e in live), sum(e.amount for e in live))
        left = quantity - before.quantity
        units = data.draw(st.integers(1, left))
        try:
            found = returned_for(of, units, before, "lineItems.0")
        except NotRefundable:
            units = left  # too little was paid for so few units
            if before.amount >= amount:
                return
            found = returned_for(of, units, before, "lineItems.0")
        live.append(Returned(found.quantity, found.amount))
        assert found.amount > 0
        assert sum(each.amount for each in live) <= amount
    assert sum(each.amount for each in live) == amount


def test_a_third_of_a_line_is_rounded_and_the_rest_makes_up_for_it() -> None:
    of = line("l1", 100, 3)
    first = returned_for(of, 1, Returned(), "x")
    second = returned_for(of, 1, Returned(1, 33), "x")
    third = returned_for(of, None, Returned(2, 67), "x")
    assert (first.amount, second.amount, third.amount) == (33, 34, 33)
    with pytest.raises(NotRefundable, match="0 of 3 units"):
        returned_for(of, None, Returned(3, 100), "x")
    with pytest.raises(NotRefundable, match="nothing was paid"):
        returned_for(line("l1", 1, 3), 1, Returned(), "x")


def test_lines_are_named_by_id_or_by_a_price_that_is_unique() -> None:
    lines = [line("l1", 500), line("l2", 700), line("l3", 900, 2, "price_2")]
    found = amounts_of(lines, [item(lineItemId="l2"), item(priceId="price_2", quantity=1)], {})
    assert [(each.line_item_id, each.amount) for each in found] == [("l2", 700), ("l3", 450)]
    with pytest.raises(InvalidInput, match="several lines"):
        amounts_of(lines, [item(priceId="price_1")], {})
    with pytest.raises(InvalidInput, match=r"lineItems\.1: the payment has no line l9"):
        amounts_of(lines, [item(lineItemId="l1"), item(lineItemId="l9")], {})
    with pytest.raises(InvalidInput, match="named twice"):
        amounts_of(lines, [item(lineItemId="l3"), item(priceId="price_2")], {})


def test_a_line_of_a_checkout_has_its_total_with_discount_and_tax() -> None:
    found = checkout_line(
        {
            "id": "li_1",
            "amount_subtotal": 2000,
            "amount_discount": 200,
            "amount_tax": 342,
            "amount_total": 2142,
            "currency": "eur",
            "price": {"id": "price_1"},
            "quantity": 2,
        }
    )
    assert found == line("li_1", 2142, 2)
    # A metered or free line may have no quantity.
    assert checkout_line({"id": "li_1", "quantity": None}).quantity == 1


def test_a_line_of_an_invoice_is_reduced_by_discounts_and_raised_by_exclusive_taxes() -> None:
    of: dict[str, Any] = {
        "id": "il_1",
        "amount": 2000,
        "currency": "eur",
        "quantity": 2,
        "discount_amounts": [{"amount": 200, "discount": "di_1"}],
        "pricing": {"price_details": {"price": "price_1", "product": "prod_1"}},
        "taxes": [
            {"amount": 342, "tax_behavior": "exclusive"},
            {"amount": 99, "tax_behavior": "inclusive"},
        ],
    }
    assert invoice_line(of) == line("il_1", 2142, 2)
    # Credits come on top of discounts, and both are in one list then.
    credits = [{"amount": 200, "type": "discount"}, {"amount": 300, "type": "credit_balance"}]
    assert invoice_line(of | {"pretax_credit_amounts": credits}).amount == 1842
