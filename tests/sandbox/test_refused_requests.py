"""A refused request leaves nothing behind: no objects, no events, no used codes."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from billhook_sandbox.clock import Clock
from billhook_sandbox.errors import CardError, CardRefused, InvalidRequest
from billhook_sandbox.ids import Ids
from billhook_sandbox.store import DataSet
from sandbox.shop import Refused, Shop
from sandbox.test_pages import submit


def everything(shop: Shop) -> Any:
    """All objects of the account, events included."""
    return shop.sandbox.dump(shop.key)


def subscriber(shop: Shop, card: str) -> str:
    settings = {"invoice_settings": {"default_payment_method": card}}
    return str(shop.v1.customers.create({"payment_method": card, **settings}).id)


def test_a_subscription_that_is_not_paid_leaves_no_price_or_discount(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 10})
    customer = subscriber(shop, "pm_card_chargeCustomerFail")
    price = {
        "currency": "usd",
        "product": shop.v1.products.create({"name": "Tea"}).id,
        "recurring": {"interval": "month"},
        "unit_amount": 1500,
    }
    before = everything(shop)
    with pytest.raises(stripe.CardError, match="declined"):
        shop.v1.subscriptions.create(
            {
                "customer": customer,
                "items": [{"price_data": price}],
                "discounts": [{"coupon": coupon.id}],
                "payment_behavior": "error_if_incomplete",
            }
        )
    assert everything(shop) == before


def test_an_update_that_is_not_paid_redeems_no_coupon(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 10})
    customer = subscriber(shop, "pm_card_visa")
    items = [{"price": shop.price(interval="month")}]
    made = shop.v1.subscriptions.create({"customer": customer, "items": items})
    method = shop.v1.payment_methods.attach("pm_card_chargeCustomerFail", {"customer": customer})
    shop.v1.subscriptions.update(made.id, {"default_payment_method": method.id})
    shop.settle()
    before = everything(shop)
    with pytest.raises(stripe.CardError, match="declined"):
        shop.v1.subscriptions.update(
            made.id,
            {
                "items": [{"id": made["items"].data[0].id, "quantity": 3}],
                "discounts": [{"coupon": coupon.id}],
                "payment_behavior": "error_if_incomplete",
                "proration_behavior": "always_invoice",
            },
        )
    assert everything(shop) == before


def test_a_card_that_cannot_be_attached_leaves_no_payment_method(shop: Shop) -> None:
    customer = shop.v1.customers.create({}).id
    before = everything(shop)
    with pytest.raises(stripe.CardError):
        shop.v1.payment_methods.attach("pm_card_chargeDeclined", {"customer": customer})
    assert everything(shop) == before


def test_a_checkout_that_is_not_filled_in_leaves_no_card(shop: Shop) -> None:
    session = shop.session(phone_number_collection={"enabled": True})
    before = everything(shop)
    with pytest.raises(Refused) as refused:
        shop.pay(session.id, phone=None)
    assert refused.value.status == 400
    assert everything(shop) == before
    assert 'role="alert"' in submit(session.url, phone="").text
    assert everything(shop) == before


def test_a_declined_payment_stays(shop: Shop) -> None:
    session = shop.session()
    with pytest.raises(Refused):
        shop.pay(session.id, "pm_card_chargeDeclined")
    assert shop.types("charge", "payment_intent") == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
    ]


def data_set() -> DataSet:
    return DataSet("shop", False, Clock(), Ids())


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (InvalidRequest("no"), ["first"]),
        (CardRefused("no"), ["first"]),
        (ZeroDivisionError(), ["first"]),
        (CardError("no"), ["second"]),
    ],
)
def test_what_fails_is_undone_except_an_attempted_payment(
    error: Exception, left: list[str]
) -> None:
    data = data_set()
    data.put({"id": "a", "object": "thing", "value": "first"})
    data.put({"id": "once", "object": "_outcome"})

    def fail() -> None:
        with data.all_or_nothing():
            data.put({"id": "a", "object": "thing", "value": "second"})
            data.put({"id": "b", "object": "other", "value": "second"})
            data.remove("_outcome", "once")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert [obj["value"] for obj in data.all("thing").rows.values()] == left
    assert (data.get("other", "b") is None) == (left == ["first"])
    assert (("other", "b") in data.unsaved) == (left == ["second"])
    used_up = isinstance(error, CardError)
    assert (data.get("_outcome", "once") is None) == used_up


def test_a_trial_run_leaves_lists_as_fast_as_before() -> None:
    data = data_set()
    data.put({"id": "a", "object": "thing", "created": 5, "owner": "x"})
    assert data.all("thing").where("owner", "x")
    with data.trial_run():
        data.put({"id": "b", "object": "thing", "created": 900, "owner": "x"})
        data.put({"id": "c", "object": "thing", "created": 3, "owner": "y"})
        data.put({"id": "a", "object": "thing", "created": 5, "owner": "y"})
        assert [obj["id"] for obj in data.all("thing").where("owner", "y")] == ["a", "c"]
    things = data.all("thing")
    assert [obj["id"] for obj in things.where("owner", "x")] == ["a"]
    assert things.where("owner", "y") == []
    assert (things.order, things.created_times, things.inversions) == (["a"], [5], 0)
    data.put({"id": "c", "object": "thing", "created": 6, "owner": "x"})
    assert [obj["id"] for obj in things.where("owner", "x")] == ["a", "c"]
