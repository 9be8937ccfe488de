"""Checkout Sessions whose subscription begins with a free trial."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Refused, Shop, web

DAY = 86400
TRIAL = {"trial_period_days": 7}


def test_a_trial_saves_the_card_and_charges_it_at_its_end(shop: Shop) -> None:
    session = shop.session("subscription", subscription_data=TRIAL)
    assert (session.amount_total, session.payment_status) == (0, "unpaid")
    paid = shop.pay(session.id)
    assert paid["payment_status"] == "no_payment_required"
    found = shop.get(f"/v1/subscriptions/{paid['subscription']}")
    assert (found["status"], found["trial_end"] - found["trial_start"]) == ("trialing", 7 * DAY)
    assert found["default_payment_method"].startswith("pm_")
    assert shop.types("charge", "setup_intent") == [
        "setup_intent.created",
        "setup_intent.succeeded",
    ]
    shop.sandbox.control("advance", seconds=5 * DAY)
    assert shop.types("customer.subscription.trial") == ["customer.subscription.trial_will_end"]
    shop.sandbox.control("advance", seconds=2 * DAY + 7200)
    assert shop.v1.subscriptions.retrieve(paid["subscription"]).status == "active"
    invoices = shop.get("/v1/invoices", subscription=paid["subscription"])["data"]
    assert [each["amount_paid"] for each in invoices] == [1500, 0]


def test_a_trial_until_a_date(shop: Shop) -> None:
    end = shop.sandbox.control("advance", seconds=0)["now"] + 3 * DAY
    paid = shop.paid("subscription", subscription_data={"trial_end": end})
    found = shop.get(f"/v1/subscriptions/{paid['subscription']}")
    assert (found["trial_end"], found["billing_cycle_anchor"]) == (end, end)


def test_a_declined_or_unauthenticated_card_begins_no_trial(shop: Shop) -> None:
    session = shop.session("subscription", subscription_data=TRIAL)
    with pytest.raises(Refused, match="declined"):
        shop.pay(session.id, "pm_card_chargeDeclined")
    waiting = shop.pay(session.id, "pm_card_authenticationRequired", authentication="ask")
    assert waiting["status"] == "open"
    assert shop.types("customer.subscription", "customer.created") == []
    page = web.get(f"{session.url}/authenticate")
    assert "save this card" in page.text
    web.post(f"{session.url}/authenticate", data={"decision": "confirmed"})
    completed = shop.v1.checkout.sessions.retrieve(session.id)
    assert completed.status == "complete"
    assert shop.v1.subscriptions.retrieve(str(completed.subscription)).status == "trialing"


@pytest.mark.parametrize(
    ("behavior", "status"), [("cancel", "canceled"), ("pause", "paused"), (None, "past_due")]
)
def test_a_trial_without_a_card_ends_as_configured(
    shop: Shop, behavior: str | None, status: str
) -> None:
    data: dict[str, Any] = dict(TRIAL)
    if behavior:
        data["trial_settings"] = {"end_behavior": {"missing_payment_method": behavior}}
    session = shop.session(
        "subscription", subscription_data=data, payment_method_collection="if_required"
    )
    assert "cardNumber" not in web.get(str(session.url)).text
    answer = web.post(str(session.url), data={"email": "ada@example.com", "name": "Ada"})
    assert answer.status_code == 303
    subscription = str(shop.v1.checkout.sessions.retrieve(session.id).subscription)
    assert shop.v1.subscriptions.retrieve(subscription).default_payment_method is None
    assert shop.types("setup_intent", "payment_method") == []
    shop.sandbox.control("advance", seconds=7 * DAY + 7200)
    assert shop.v1.subscriptions.retrieve(subscription).status == status


def test_a_coupon_that_applies_once_waits_for_the_first_charge(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 50, "duration": "once"})
    paid = shop.paid("subscription", subscription_data=TRIAL, discounts=[{"coupon": coupon.id}])
    shop.sandbox.control("advance", seconds=7 * DAY + 7200)
    invoices = shop.get("/v1/invoices", subscription=paid["subscription"])["data"]
    assert [each["amount_paid"] for each in invoices] == [750, 0]


@pytest.mark.parametrize(
    ("data", "param"),
    [
        ({"trial_end": 1}, "subscription_data[trial_end]"),
        ({"trial_period_days": 0}, "subscription_data[trial_period_days]"),
        ({"trial_period_days": 800}, "subscription_data[trial_period_days]"),
        ({"trial_period_days": 7, "trial_end": 9999999999}, "subscription_data[trial_end]"),
        (
            {"trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}}},
            "subscription_data[trial_settings]",
        ),
    ],
)
def test_an_invalid_trial_is_refused(shop: Shop, data: dict[str, Any], param: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.session("subscription", subscription_data=data)
    assert caught.value.param == param


def test_a_free_order_by_coupon_takes_no_card(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 100})
    session = shop.session(discounts=[{"coupon": coupon.id}])
    assert "cardNumber" not in web.get(str(session.url)).text
    assert shop.pay(session.id)["payment_status"] == "no_payment_required"
