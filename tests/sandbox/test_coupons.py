"""Coupons and promotion codes, and their discounts at checkout."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Refused, Shop, web
from sandbox.test_pages import CARD


def test_a_coupon_reduces_the_total_of_a_checkout(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 33.33, "name": "Third"})
    items = [{"price": shop.price(amount), "quantity": 1} for amount in (1000, 333, 167)]
    session = shop.session(line_items=items, discounts=[{"coupon": coupon.id}])
    assert (session.amount_subtotal, session.amount_total) == (1500, 1000)
    assert session.total_details is not None
    assert session.total_details.amount_discount == 500
    lines = shop.get(f"/v1/checkout/sessions/{session.id}/line_items")["data"]
    assert sum(line["amount_discount"] for line in lines) == 500
    assert all(
        line["amount_total"] == line["amount_subtotal"] - line["amount_discount"] for line in lines
    )
    intent = shop.pay(session.id)["payment_intent"]
    assert shop.v1.payment_intents.retrieve(intent).amount_received == 1000
    assert shop.v1.coupons.retrieve(coupon.id).times_redeemed == 1


def test_a_promotion_code_is_used_up(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"amount_off": 2000, "currency": "usd", "id": "WELCOME"})
    given = {
        "promotion": {"type": "coupon", "coupon": coupon.id},
        "code": "HI",
        "max_redemptions": 1,
    }
    code = shop.v1.promotion_codes.create(given)
    paid = shop.pay(shop.session(discounts=[{"promotion_code": code.id}]).id)
    assert (paid["amount_total"], paid["payment_status"]) == (0, "no_payment_required")
    found = shop.get("/v1/promotion_codes", code="HI", **{"expand[]": "data.promotion.coupon"})
    assert found["data"][0]["active"] is False
    assert found["data"][0]["promotion"]["coupon"]["times_redeemed"] == 1
    with pytest.raises(stripe.InvalidRequestError, match="not active"):
        shop.session(discounts=[{"promotion_code": code.id}])


def test_promotion_codes_enforce_their_restrictions(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 10})
    promotion = {"type": "coupon", "coupon": coupon.id}
    customer = shop.v1.customers.create({}).id
    cheap = {"minimum_amount": 5000, "minimum_amount_currency": "usd"}
    conditions = {"another customer": {"customer": customer}, "minimum": {"restrictions": cheap}}
    for message, condition in conditions.items():
        code = shop.v1.promotion_codes.create({"promotion": promotion, **condition})
        with pytest.raises(stripe.InvalidRequestError, match=message):
            shop.session(discounts=[{"promotion_code": code.id}])


def test_coupons_emit_events_and_are_listed_and_deleted(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 10, "duration": "forever"})
    shop.v1.coupons.update(coupon.id, {"name": "Tenth"})
    code = shop.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}})
    shop.v1.promotion_codes.update(code.id, {"active": False})
    assert shop.v1.coupons.delete(coupon.id).deleted
    assert shop.types("coupon", "promotion_code") == [
        "coupon.created",
        "coupon.updated",
        "promotion_code.created",
        "promotion_code.updated",
        "coupon.deleted",
    ]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({}, "percent_off"),
        ({"percent_off": 101}, "percent_off"),
        ({"amount_off": 5}, "currency"),
        ({"percent_off": 5, "duration": "repeating"}, "duration_in_months"),
    ],
)
def test_an_invalid_coupon_is_rejected(shop: Shop, given: object, param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.coupons.create(given)
    assert caught.value.param == param


def code_with(shop: Shop, name: str = "HI", **given: Any) -> Any:
    coupon = shop.v1.coupons.create({"percent_off": 50})
    promotion = {"type": "coupon", "coupon": coupon.id}
    return shop.v1.promotion_codes.create({"promotion": promotion, "code": name, **given})


def minimum(amount: int, currency: str = "usd") -> dict[str, Any]:
    restrictions = {"minimum_amount": amount, "minimum_amount_currency": currency}
    return {"restrictions": restrictions}


def entered(shop: Shop, **given: Any) -> Any:
    """A session on whose page the buyer has entered the code."""
    session = shop.session(allow_promotion_codes=True, **given)
    page = web.post(str(session.url), data={"action": "update", "promotion_code": "HI"})
    assert 'role="alert"' not in page.text
    assert shop.v1.checkout.sessions.retrieve(session.id).amount_total == 750
    return session


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"active": False}, "not active"),
        (minimum(1501), "minimum amount"),
        (minimum(1, "eur"), "payments in eur"),
    ],
)
def test_a_buyer_cannot_enter_a_code_that_is_not_for_the_order(
    shop: Shop, given: Any, message: str
) -> None:
    code_with(shop, **given)
    session = shop.session(allow_promotion_codes=True)
    with pytest.raises(Refused, match=message):
        shop.pay(session.id, promotion_code="HI")


def test_a_code_expires(shop: Shop) -> None:
    now = shop.sandbox.control("advance", seconds=0)["now"]
    code = code_with(shop, expires_at=now + 3600)
    session = entered(shop)
    shop.sandbox.control("advance", seconds=3600)
    with pytest.raises(Refused, match="not active"):
        shop.pay(session.id)
    with pytest.raises(Refused, match="not active"):
        shop.pay(shop.session(allow_promotion_codes=True).id, promotion_code="HI")
    with pytest.raises(stripe.InvalidRequestError, match="can't be activated"):
        shop.v1.promotion_codes.update(code.id, {"active": True})


def test_the_last_use_of_a_code_is_for_who_pays_first(shop: Shop) -> None:
    code = code_with(shop, max_redemptions=1)
    first, second = entered(shop), entered(shop)
    assert shop.pay(first.id)["amount_total"] == 750
    with pytest.raises(Refused, match="not active"):
        shop.pay(second.id)
    assert shop.v1.promotion_codes.retrieve(code.id).times_redeemed == 1


def test_the_page_shows_the_new_total_when_a_code_can_no_longer_be_used(shop: Shop) -> None:
    code_with(shop, max_redemptions=1)
    first, second = entered(shop), entered(shop)
    shop.pay(first.id)
    form = {**CARD, "shown": "750"}
    assert "The total is now $15.00" in web.post(str(second.url), data=form).text
    assert web.post(str(second.url), data={**form, "shown": "1500"}).status_code == 303
    assert shop.v1.checkout.sessions.retrieve(second.id).amount_total == 1500


def test_a_code_needs_its_minimum_amount_until_the_order_is_paid(shop: Shop) -> None:
    code_with(shop, **minimum(1500))
    price = shop.price(750)
    adjustable = {"enabled": True, "minimum": 1, "maximum": 5}
    item = {"price": price, "quantity": 2, "adjustable_quantity": adjustable}
    session = entered(shop, line_items=[item])
    with pytest.raises(Refused, match="minimum amount"):
        shop.pay(session.id, quantities={price: 1})
    assert shop.pay(session.id)["amount_total"] == 750


def test_a_code_for_the_first_transaction_is_refused_after_a_paid_invoice(shop: Shop) -> None:
    code_with(shop, restrictions={"first_time_transaction": True})
    customer = shop.v1.customers.create({}).id
    assert shop.pay(
        shop.session(allow_promotion_codes=True, customer=customer).id, promotion_code="HI"
    )
    returning = shop.v1.customers.create({}).id
    invoice = shop.v1.invoices.create({"customer": returning}).id
    shop.v1.invoices.finalize_invoice(invoice)
    for known in (customer, returning):
        with pytest.raises(Refused, match="first transaction"):
            shop.pay(
                shop.session(allow_promotion_codes=True, customer=known).id, promotion_code="HI"
            )


def test_a_customer_has_a_code_of_the_same_name(shop: Shop) -> None:
    customer = shop.v1.customers.create({}).id
    own = code_with(shop, "hi", customer=customer)
    everyones = code_with(shop)
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        code_with(shop, "Hi")
    for buyer, code in ({"customer": customer}, own), ({}, everyones):
        paid = shop.pay(shop.session(allow_promotion_codes=True, **buyer).id, promotion_code="HI")
        assert paid["discounts"] == [{"coupon": None, "promotion_code": code.id}]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"expires_at": 1_600_000_000}, "expires_at"),
        ({"expires_at": 4_000_000_000}, "expires_at"),
        ({"max_redemptions": 4}, "max_redemptions"),
        ({"restrictions": {"minimum_amount": 5}}, "restrictions[minimum_amount_currency]"),
    ],
)
def test_a_code_has_the_limits_of_its_coupon(shop: Shop, given: Any, param: str) -> None:
    limits = {"redeem_by": 3_900_000_000, "max_redemptions": 3}
    coupon = shop.v1.coupons.create({"percent_off": 50, **limits})
    promotion = {"type": "coupon", "coupon": coupon.id}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        shop.v1.promotion_codes.create({"promotion": promotion, **given})
    assert refused.value.param == param


def test_a_subscription_by_api_must_reach_the_minimum_amount(shop: Shop) -> None:
    code = code_with(shop, **minimum(1501)).id
    customer = shop.v1.customers.create({"payment_method": "pm_card_visa"}).id
    price = shop.price(interval="month")
    given = {"customer": customer, "discounts": [{"promotion_code": code}]}
    with pytest.raises(stripe.InvalidRequestError, match="minimum amount"):
        shop.v1.subscriptions.create({**given, "items": [{"price": price}]})
    method = shop.get("/v1/payment_methods", customer=customer)["data"][0]["id"]
    items = [{"price": price, "quantity": 2}]
    made = {**given, "items": items, "default_payment_method": method}
    assert shop.v1.subscriptions.create(made).status == "active"
