"""Saving payment methods: setup intents by API, and Checkout in setup mode."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Refused, Shop


def setup(shop: Shop, **given: Any) -> Any:
    return shop.v1.setup_intents.create(given)


def test_a_card_is_saved_for_its_customer(shop: Shop) -> None:
    customer = shop.v1.customers.create({}).id
    saved = setup(shop, customer=customer, payment_method="pm_card_visa", confirm=True)
    assert saved.status == "succeeded"
    kept = shop.get(f"/v1/customers/{customer}/payment_methods")["data"]
    assert [method["id"] for method in kept] == [saved.payment_method]
    assert shop.types("setup", "payment") == [
        "setup_intent.created",
        "payment_method.attached",
        "setup_intent.succeeded",
    ]
    given = {"customer": customer, "payment_method": kept[0]["id"], "confirm": True}
    payment = {"amount": 900, "currency": "usd", "off_session": True}
    assert shop.v1.payment_intents.create({**given, **payment}).status == "succeeded"


def test_a_declined_card_leaves_the_intent_open(shop: Shop) -> None:
    with pytest.raises(stripe.CardError) as caught:
        setup(shop, payment_method="pm_card_chargeDeclined", confirm=True)
    assert caught.value.code == "card_declined"
    intent = shop.get("/v1/setup_intents")["data"][0]
    assert intent["last_setup_error"]["decline_code"] == "generic_decline"
    done = shop.v1.setup_intents.confirm(intent["id"], {"payment_method": "pm_card_visa"})
    assert (done.status, done.last_setup_error) == ("succeeded", None)
    with pytest.raises(stripe.InvalidRequestError) as again:
        shop.v1.setup_intents.cancel(intent["id"])
    assert again.value.code == "setup_intent_unexpected_state"


def test_a_card_that_fails_later_is_saved(shop: Shop) -> None:
    saved = setup(shop, payment_method="pm_card_chargeCustomerFail", confirm=True)
    assert saved.status == "succeeded"


def test_authentication_is_required_and_a_setup_can_be_canceled(shop: Shop) -> None:
    asked = setup(shop, payment_method="pm_card_authenticationRequired", confirm=True)
    assert asked.status == "requires_action"
    assert shop.sandbox.control("authenticate", intent=asked.id)["status"] == "succeeded"
    gone = shop.v1.setup_intents.cancel(setup(shop).id, {"cancellation_reason": "abandoned"})
    assert gone.status == "canceled"


def test_checkout_saves_a_payment_method(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "a@b.co"}).id
    given = {
        "mode": "setup",
        "currency": "usd",
        "customer": customer,
        "success_url": "https://shop.example/thanks",
        "setup_intent_data": {"metadata": {"plan": "tea"}},
    }
    session = shop.v1.checkout.sessions.create(given)
    assert (session.amount_total, session.payment_status) == (None, "no_payment_required")
    with pytest.raises(Refused, match="declined"):
        shop.pay(session.id, "pm_card_chargeDeclined")
    done = shop.pay(session.id)
    assert (done["status"], done["payment_intent"]) == ("complete", None)
    found = shop.get(f"/v1/checkout/sessions/{session.id}", **{"expand[]": "setup_intent"})
    assert found["setup_intent"]["status"] == "succeeded"
    assert found["setup_intent"]["metadata"] == {"plan": "tea"}
    assert len(shop.get(f"/v1/customers/{customer}/payment_methods")["data"]) == 1
    assert shop.types()[-3:] == [
        "payment_method.attached",
        "setup_intent.succeeded",
        "checkout.session.completed",
    ]


def test_an_expired_setup_is_canceled(shop: Shop) -> None:
    given = {"mode": "setup", "currency": "eur", "success_url": "https://shop.example/thanks"}
    session = shop.v1.checkout.sessions.create(given)
    shop.v1.checkout.sessions.expire(session.id)
    assert shop.v1.setup_intents.retrieve(str(session.setup_intent)).status == "canceled"
