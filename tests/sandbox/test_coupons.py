"""Coupons and promotion codes, and their discounts at checkout."""

from __future__ import annotations

import pytest
import stripe

from sandbox.shop import Shop


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
    for condition in ({"customer": customer}, {"restrictions": cheap}):
        code = shop.v1.promotion_codes.create({"promotion": promotion, **condition})
        with pytest.raises(stripe.InvalidRequestError, match=r"another customer|minimum amount"):
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
