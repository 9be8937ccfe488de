"""Coupons, pauses, taxes and notices of subscriptions that are managed by API."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Shop

DAY = 86400


def subscriber(shop: Shop, **given: Any) -> Any:
    customer = shop.v1.customers.create(
        {
            "address": {"country": "DE"},
            "payment_method": "pm_card_visa",
            "invoice_settings": {"default_payment_method": "pm_card_visa"},
        }
    ).id
    items = [{"price": shop.price(interval="month")}]
    return shop.v1.subscriptions.create({"customer": customer, "items": items, **given})


def paid_amounts(shop: Shop, subscription: str) -> list[int]:
    found = shop.get("/v1/invoices", subscription=subscription)["data"]
    return [invoice["amount_paid"] for invoice in found][::-1]


def later(shop: Shop, days: float) -> None:
    shop.sandbox.control("advance", seconds=days * DAY)


def test_a_subscription_by_api_has_a_coupon_from_its_first_invoice(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 20, "duration": "forever"})
    code = shop.v1.promotion_codes.create({"promotion": {"type": "coupon", "coupon": coupon.id}})
    found = subscriber(shop, discounts=[{"promotion_code": code.id}])
    assert shop.types("customer.discount", "customer.subscription") == [
        "customer.discount.created",
        "customer.subscription.created",
    ]
    shop.sandbox.control("renew", subscription=found.id)
    assert paid_amounts(shop, found.id) == [1200, 1200]
    assert shop.v1.promotion_codes.retrieve(code.id).times_redeemed == 1
    discount = shop.v1.subscriptions.retrieve(found.id, {"expand": ["discounts"]}).discounts[0]
    assert (discount.promotion_code, discount.subscription) == (code.id, found.id)


def test_a_coupon_of_the_whole_price_needs_no_card(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 100, "duration": "forever"})
    customer = shop.v1.customers.create({}).id
    items = [{"price": shop.price(interval="month")}]
    given = {"customer": customer, "items": items, "discounts": [{"coupon": coupon.id}]}
    assert shop.v1.subscriptions.create(given).status == "active"


def test_discounts_are_added_replaced_and_removed(shop: Shop) -> None:
    tenth, half = (
        shop.v1.coupons.create({"percent_off": off, "duration": "forever"}).id for off in (10, 50)
    )
    found = subscriber(shop, discounts=[{"coupon": tenth}])
    kept = {"discount": found.discounts[0]}
    both = shop.v1.subscriptions.update(found.id, {"discounts": [kept, {"coupon": half}]})
    assert both.discounts[0] == found.discounts[0]
    shop.sandbox.control("renew", subscription=found.id)
    assert paid_amounts(shop, found.id) == [1350, 675]
    shop.v1.subscriptions.update(found.id, {"discounts": [{"coupon": half}]})
    assert shop.v1.subscriptions.delete_discount(found.id).deleted
    assert shop.v1.subscriptions.retrieve(found.id).discounts == []
    assert shop.types("customer.discount") == [
        *["customer.discount.created"] * 3,
        *["customer.discount.deleted"] * 3,
    ]
    with pytest.raises(stripe.InvalidRequestError, match="No such discount"):
        shop.v1.subscriptions.update(found.id, {"discounts": [kept]})


def test_a_refused_update_changes_nothing(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 10})
    found = subscriber(shop)
    before = shop.types("customer")
    given = {"discounts": [{"coupon": coupon.id}], "items": [{"price": "price_gone"}]}
    with pytest.raises(stripe.InvalidRequestError, match="price_gone"):
        shop.v1.subscriptions.update(found.id, given)
    assert shop.types("customer") == before
    assert shop.v1.coupons.retrieve(coupon.id).times_redeemed == 0
    assert shop.v1.subscriptions.retrieve(found.id).discounts == []


def test_prorations_include_the_discount(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "forever"})
    found = subscriber(shop, discounts=[{"coupon": coupon.id}])
    item = found["items"].data[0].id
    change = {"items": [{"id": item, "price": shop.price(3000, interval="month")}]}
    shop.v1.subscriptions.update(found.id, {**change, "proration_behavior": "always_invoice"})
    difference = paid_amounts(shop, found.id)[-1]
    assert 745 <= difference <= 750  # half of 30.00, less half of 15.00, for nearly a month


def test_automatic_tax_of_a_subscription_by_api(shop: Shop) -> None:
    found = subscriber(shop, automatic_tax={"enabled": True})
    assert found.automatic_tax.enabled
    assert paid_amounts(shop, found.id) == [1785]
    off = shop.v1.subscriptions.update(found.id, {"automatic_tax": {"enabled": False}})
    assert not off.automatic_tax.enabled
    shop.sandbox.control("renew", subscription=found.id)
    assert paid_amounts(shop, found.id) == [1785, 1500]


def test_a_paused_collection_resumes_by_itself(shop: Shop) -> None:
    found = subscriber(shop)
    now = shop.sandbox.control("advance", seconds=0)["now"]
    pause = {"behavior": "void", "resumes_at": now + 40 * DAY}
    paused = shop.v1.subscriptions.update(found.id, {"pause_collection": pause})
    assert paused.pause_collection.to_dict() == pause
    later(shop, 32)
    assert [i["status"] for i in shop.get("/v1/invoices")["data"]] == ["void", "paid"]
    later(shop, 9)
    resumed = shop.events("customer.subscription.updated")[-1]["data"]
    assert resumed["previous_attributes"]["pause_collection"] == pause
    later(shop, 31)
    assert shop.get("/v1/invoices")["data"][0]["status"] == "paid"
    with pytest.raises(stripe.InvalidRequestError, match="in the future"):
        shop.v1.subscriptions.update(
            found.id, {"pause_collection": {"behavior": "void", "resumes_at": now}}
        )


def test_an_upcoming_invoice_is_announced_a_week_before_a_renewal(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 20, "duration": "forever"})
    found = subscriber(shop, discounts=[{"coupon": coupon.id}])
    end = found["items"].data[0].current_period_end
    now = shop.sandbox.control("advance", seconds=0)["now"]
    invoices = len(shop.get("/v1/invoices")["data"])
    shop.sandbox.control("advance", seconds=end - now - 7 * DAY - 60)
    assert shop.types("invoice.upcoming") == []
    shop.sandbox.control("advance", seconds=120)
    (event,) = shop.events("invoice.upcoming")
    invoice = event["data"]["object"]
    assert (invoice["billing_reason"], invoice["status"]) == ("upcoming", "draft")
    assert (invoice["amount_due"], invoice["customer"]) == (1200, found.customer)
    assert len(shop.get("/v1/invoices")["data"]) == invoices, "a notice creates nothing"
    later(shop, 8)
    assert paid_amounts(shop, found.id) == [1200, 1200]
    later(shop, 23)
    (second,) = shop.events("invoice.upcoming")  # Events are listed for 30 days.
    assert second["id"] != event["id"]


def test_a_subscription_that_ends_is_not_announced(shop: Shop) -> None:
    found = subscriber(shop)
    shop.v1.subscriptions.update(found.id, {"cancel_at_period_end": True})
    later(shop, 27)
    assert shop.types("invoice.upcoming") == []


def test_notices_follow_the_test_clock(shop: Shop) -> None:
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000})
    customer = shop.v1.customers.create(
        {
            "test_clock": clock.id,
            "payment_method": "pm_card_visa",
            "invoice_settings": {"default_payment_method": "pm_card_visa"},
        }
    ).id
    items = [{"price": shop.price(interval="month")}]
    shop.v1.subscriptions.create({"customer": customer, "items": items})
    shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_800_000_000 + 27 * DAY})
    shop.settle()
    (event,) = shop.events("invoice.upcoming")
    assert event["data"]["object"]["next_payment_attempt"] > 1_800_000_000 + 27 * DAY


def invoiced(shop: Shop, subscription: str) -> list[tuple[str, int]]:
    found = shop.get("/v1/invoices", subscription=subscription)["data"][::-1]
    return [(invoice["billing_reason"], invoice["total"]) for invoice in found]


def upgrade(shop: Shop, found: Any, behavior: str, **given: Any) -> Any:
    change = [{"id": found["items"].data[0].id, "price": shop.price(3000, interval="month")}]
    given = {"items": change, "proration_behavior": behavior, **given}
    return shop.v1.subscriptions.update(found.id, given)


def test_a_coupon_that_applies_once_is_used_up_by_an_upgrade_that_is_billed_now(
    shop: Shop,
) -> None:
    once = shop.v1.coupons.create({"percent_off": 50, "duration": "once"}).id
    found = subscriber(shop)
    upgrade(shop, found, "always_invoice", discounts=[{"coupon": once}])
    assert shop.v1.subscriptions.retrieve(found.id).discounts == []
    shop.sandbox.control("renew", subscription=found.id)
    _, (reason, total), renewal = invoiced(shop, found.id)
    assert reason == "subscription_update"
    assert -5 <= total <= 5, "half of 30.00, less the 15.00 that were paid"
    assert renewal == ("subscription_cycle", 3000)
    assert len(shop.types("customer.discount.deleted")) == 1


def test_a_coupon_that_waits_for_the_next_invoice_is_used_up_by_it(shop: Shop) -> None:
    once = shop.v1.coupons.create({"percent_off": 50, "duration": "once"}).id
    found = subscriber(shop)
    shop.v1.subscriptions.update(found.id, {"discounts": [{"coupon": once}]})
    upgrade(shop, found, "always_invoice")
    shop.sandbox.control("renew", subscription=found.id)
    _, (_, upgraded), renewal = invoiced(shop, found.id)
    assert -5 <= upgraded <= 5
    assert renewal == ("subscription_cycle", 3000)


def test_a_coupon_that_applies_once_waits_for_the_renewal_if_an_upgrade_does(shop: Shop) -> None:
    once = shop.v1.coupons.create({"amount_off": 500, "currency": "usd", "duration": "once"}).id
    found = subscriber(shop)
    upgrade(shop, found, "create_prorations", discounts=[{"coupon": once}])
    for _ in range(2):
        shop.sandbox.control("renew", subscription=found.id)
    _, (_, with_prorations), (_, last) = invoiced(shop, found.id)
    assert 3990 <= with_prorations <= 4000, "30.00 − 15.00 + 30.00 − 5.00"
    assert last == 3000


def test_a_credit_is_what_was_charged_less_its_coupon(shop: Shop) -> None:
    once = shop.v1.coupons.create({"percent_off": 100, "duration": "once"}).id
    found = subscriber(shop, discounts=[{"coupon": once}])
    upgrade(shop, found, "always_invoice")
    (_, first), (_, second) = invoiced(shop, found.id)
    assert first == 0
    assert 2990 <= second <= 3000, "nothing was paid for the cheaper plan, so nothing is credited"


def test_an_amount_off_is_shared_by_the_items_of_a_proration(shop: Shop) -> None:
    off = shop.v1.coupons.create({"amount_off": 600, "currency": "usd", "duration": "forever"}).id
    items = [{"price": shop.price(amount, interval="month")} for amount in (1000, 2000)]
    found = subscriber(shop, items=items, discounts=[{"coupon": off}])
    change = [{"id": item.id, "quantity": 2} for item in found["items"].data]
    given = {"items": change, "proration_behavior": "always_invoice"}
    shop.v1.subscriptions.update(found.id, given)
    (_, first), (_, second) = invoiced(shop, found.id)
    assert first == 2400
    assert 2990 <= second <= 3000, "60.00 − 6.00, less 24.00"
