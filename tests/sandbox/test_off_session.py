"""Charges with saved cards while the customer is away, and what they may have to do afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Shop, web

DAY = 86400


def customer_with(shop: Shop, card: str) -> tuple[str, str]:
    """A customer with a saved card, and the card."""
    customer = shop.v1.customers.create({"email": "ada@example.com"}).id
    method = shop.v1.payment_methods.attach(card, {"customer": customer}).id
    settings = {"default_payment_method": method}
    shop.v1.customers.update(customer, {"invoice_settings": settings})
    return customer, method


def charge(shop: Shop, card: str, **given: Any) -> Any:
    customer, method = customer_with(shop, card)
    params = {"amount": 2000, "currency": "usd", "customer": customer, "payment_method": method}
    return shop.v1.payment_intents.create({**params, "confirm": True, "off_session": True, **given})


def test_a_saved_card_is_charged_while_the_customer_is_away(shop: Shop) -> None:
    assert charge(shop, "pm_card_visa").status == "succeeded"
    # This card was authenticated when it was saved.
    assert charge(shop, "pm_card_authenticationRequiredOnSetup").status == "succeeded"


def test_a_charge_that_needs_authentication_is_completed_by_the_customer(shop: Shop) -> None:
    with pytest.raises(stripe.CardError) as caught:
        charge(shop, "pm_card_authenticationRequired")
    error = caught.value.json_body["error"]
    assert (error["code"], error["decline_code"]) == ("authentication_required",) * 2
    intent, method = error["payment_intent"], error["payment_method"]["id"]
    assert intent["status"] == "requires_payment_method"
    back = "https://shop.example/back"
    asked = shop.v1.payment_intents.confirm(
        intent["id"], {"payment_method": method, "return_url": back}
    )
    assert asked.next_action.type == "redirect_to_url"
    web.post(asked.next_action.redirect_to_url.url, data={"decision": "confirmed"})
    assert shop.v1.payment_intents.retrieve(intent["id"]).status == "succeeded"


def test_an_invoice_is_paid_once_its_payment_is_authenticated(shop: Shop) -> None:
    customer, _ = customer_with(shop, "pm_card_visa")
    items = [{"price": shop.price(interval="month")}]
    subscription = shop.v1.subscriptions.create({"customer": customer, "items": items}).id
    shop.sandbox.control(
        "outcome", key=shop.key, card="pm_card_authenticationRequired", customer=customer
    )
    shop.sandbox.control("renew", subscription=subscription)
    assert shop.v1.subscriptions.retrieve(subscription).status == "past_due"
    (needed,) = shop.events("invoice.payment_action_required")
    invoice = needed["data"]["object"]["id"]
    payments = shop.v1.invoice_payments.list({"invoice": invoice}).data
    shop.sandbox.control("authenticate", intent=payments[0].payment.payment_intent)
    assert shop.v1.invoices.retrieve(invoice).status == "paid"
    assert shop.v1.subscriptions.retrieve(subscription).status == "active"
    assert shop.types("invoice.paid", "invoice.payment_succeeded")[-2:] == [
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


def test_confirming_the_first_invoice_of_a_subscription_activates_it(shop: Shop) -> None:
    customer, method = customer_with(shop, "pm_card_visa")
    items = [{"price": shop.price(interval="month")}]
    given = {"customer": customer, "items": items, "payment_behavior": "default_incomplete"}
    found = shop.v1.subscriptions.create({**given, "expand": ["latest_invoice.payments"]})
    assert found.status == "incomplete"
    intent = found.latest_invoice.payments.data[0].payment.payment_intent
    shop.v1.payment_intents.confirm(intent, {"payment_method": method})
    assert shop.v1.subscriptions.retrieve(found.id).status == "active"


def test_a_card_is_reported_in_the_month_it_expires(shop: Shop) -> None:
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": 1_795_000_000})  # Nov 2026
    customer = shop.v1.customers.create({"test_clock": clock.id}).id
    card = {"number": "4242424242424242", "exp_month": 1, "exp_year": 2027}
    method = shop.v1.payment_methods.create({"type": "card", "card": card}).id
    shop.v1.payment_methods.attach(method, {"customer": customer})
    shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_795_000_000 + 20 * DAY})
    shop.settle()
    assert shop.types("customer.source") == []
    shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": 1_795_000_000 + 50 * DAY})
    shop.settle()
    (event,) = shop.events("customer.source")
    card = event["data"]["object"]
    assert (event["type"], card["object"]) == ("customer.source.expiring", "card")
    assert (card["id"], card["customer"], card["exp_year"]) == (method, customer, 2027)
    renewed = {"card": {"exp_month": 2, "exp_year": 2031}}
    assert shop.v1.payment_methods.update(method, renewed).card.exp_year == 2031
    assert shop.types("payment_method.updated") == ["payment_method.updated"]
    with pytest.raises(stripe.CardError, match="month is invalid"):
        shop.v1.payment_methods.update(method, {"card": {"exp_month": 13}})
