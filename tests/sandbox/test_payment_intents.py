"""Payment intents by API: confirm, authenticate, capture, cancel."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import stripe

from billhook_sandbox.object_validation import validate_object
from sandbox.shop import Refused, Shop


def intent(shop: Shop, **given: Any) -> Any:
    return shop.v1.payment_intents.create({"amount": 2000, "currency": "usd", **given})


def confirmed(shop: Shop, card: str = "pm_card_visa", **given: Any) -> Any:
    return intent(shop, payment_method=card, confirm=True, **given)


def test_an_intent_is_confirmed_and_paid(shop: Shop) -> None:
    made = intent(shop, metadata={"order": "7"})
    assert made.status == "requires_payment_method"
    assert shop.v1.payment_intents.update(made.id, {"amount": 2500}).amount == 2500
    paid = shop.v1.payment_intents.confirm(made.id, {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.amount_received) == ("succeeded", 2500)
    assert shop.types() == [
        "payment_intent.created",
        "charge.succeeded",
        "payment_intent.succeeded",
    ]
    shop.settle()
    charge = shop.get(f"/v1/charges/{paid.latest_charge}")
    assert charge["balance_transaction"]
    assert charge["metadata"] == {"order": "7"}
    with pytest.raises(stripe.InvalidRequestError) as again:
        shop.v1.payment_intents.confirm(made.id)
    assert again.value.code == "payment_intent_unexpected_state"


def test_a_declined_intent_is_paid_with_another_card(shop: Shop) -> None:
    with pytest.raises(stripe.CardError) as caught:
        confirmed(shop, "pm_card_chargeDeclined")
    assert caught.value.code == "card_declined"
    found = shop.get("/v1/payment_intents")["data"][0]
    assert (found["status"], found["payment_method"]) == ("requires_payment_method", None)
    paid = shop.v1.payment_intents.confirm(found["id"], {"payment_method": "pm_card_visa"})
    assert (paid.status, paid.last_payment_error) == ("succeeded", None)


def test_authentication_is_required_and_confirmed_or_denied(shop: Shop) -> None:
    asked = confirmed(shop, "pm_card_authenticationRequired")
    assert asked.status == "requires_action"
    with pytest.raises(Refused, match="authenticate"):
        shop.sandbox.control("authenticate", intent=asked.id, decision="denied")
    again = {"payment_method": "pm_card_authenticationRequired"}
    shop.v1.payment_intents.confirm(asked.id, again)
    assert shop.sandbox.control("authenticate", intent=asked.id)["status"] == "succeeded"
    with pytest.raises(stripe.CardError) as caught:
        confirmed(shop, "pm_card_authenticationRequired", off_session=True)
    assert caught.value.code == "authentication_required"


@pytest.mark.parametrize(
    ("decision", "redirect", "status"),
    [
        ("confirmed", "succeeded", "succeeded"),
        ("denied", "failed", "requires_payment_method"),
    ],
)
def test_with_a_return_url_the_customer_is_sent_to_a_page_and_back(
    shop: Shop, decision: str, redirect: str, status: str
) -> None:
    back = "https://shop.example/back?order=7#paid"
    asked = confirmed(shop, "pm_card_authenticationRequired", return_url=back)
    action = asked.next_action
    assert (asked.status, action.type) == ("requires_action", "redirect_to_url")
    assert action.redirect_to_url.return_url == back
    page = action.redirect_to_url.url
    assert "20.00" in httpx.get(page).text
    answer = httpx.post(page, data={"decision": decision})
    assert answer.status_code == 303
    assert answer.headers["location"] == (
        f"https://shop.example/back?order=7&payment_intent={asked.id}"
        f"&payment_intent_client_secret={asked.client_secret}&redirect_status={redirect}#paid"
    )
    assert shop.v1.payment_intents.retrieve(asked.id).status == status
    assert httpx.get(page).status_code == 404


def test_a_partial_capture_releases_the_rest(shop: Shop) -> None:
    held = confirmed(shop, capture_method="manual")
    assert (held.status, held.amount_capturable) == ("requires_capture", 2000)
    shop.settle()
    assert shop.get("/v1/balance_transactions")["data"] == []
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.payment_intents.capture(held.id, {"amount_to_capture": 2001})
    assert caught.value.code == "amount_too_large"
    taken = shop.v1.payment_intents.capture(held.id, {"amount_to_capture": 1200})
    assert (taken.status, taken.amount_received, taken.amount_capturable) == ("succeeded", 1200, 0)
    shop.settle()
    assert [t["amount"] for t in shop.get("/v1/balance_transactions")["data"]] == [1200]
    whole = shop.v1.refunds.create({"payment_intent": held.id})
    assert whole.amount == 1200
    assert shop.get(f"/v1/charges/{taken.latest_charge}")["refunded"] is True


def test_a_canceled_intent_moves_no_money(shop: Shop) -> None:
    held = confirmed(shop, capture_method="manual")
    gone = shop.v1.payment_intents.cancel(held.id, {"cancellation_reason": "abandoned"})
    assert (gone.status, gone.cancellation_reason) == ("canceled", "abandoned")
    shop.settle()
    assert shop.get("/v1/balance_transactions")["data"] == []
    assert shop.types()[-1] == "payment_intent.canceled"


def test_without_automatic_async_the_charge_has_its_balance_transaction_immediately(
    shop: Shop,
) -> None:
    paid = confirmed(shop, capture_method="automatic")
    assert shop.get(f"/v1/charges/{paid.latest_charge}")["balance_transaction"]
    shop.settle()
    assert len(shop.get("/v1/balance_transactions")["data"]) == 1


@pytest.mark.parametrize(
    ("iban", "status"),
    [
        ("AT611904300234573201", "succeeded"),
        ("AT861904300235473202", "requires_payment_method"),
        ("IT60X0542811101000000123456", "requires_payment_method"),
    ],
)
def test_a_debit_succeeds_or_fails_days_later(shop: Shop, iban: str, status: str) -> None:
    given = {"type": "sepa_debit", "sepa_debit": {"iban": iban}}
    method = shop.v1.payment_methods.create(given).id
    made = confirmed(shop, method, currency="eur", allowed_payment_method_types=["sepa_debit"])
    assert made.status == "processing"
    shop.settle()
    assert shop.v1.payment_intents.retrieve(made.id).status == status


def test_a_method_saved_for_off_session_use_is_attached_to_the_customer(shop: Shop) -> None:
    customer = shop.v1.customers.create({}).id
    confirmed(shop, customer=customer, setup_future_usage="off_session")
    saved = shop.get(f"/v1/customers/{customer}/payment_methods")["data"]
    assert len(saved) == 1
    other = shop.v1.customers.create({}).id
    with pytest.raises(stripe.InvalidRequestError, match="another customer"):
        confirmed(shop, saved[0]["id"], customer=other)


def test_objects_of_every_intent_are_valid(shop: Shop) -> None:
    confirmed(shop)
    intent(shop)
    confirmed(shop, "pm_card_authenticationRequired")
    shop.v1.payment_intents.capture(confirmed(shop, capture_method="manual").id)
    shop.v1.payment_intents.cancel(intent(shop).id)
    shop.settle()
    listed = shop.get("/v1/payment_intents")["data"][::-1]
    assert [found["status"] for found in listed] == [
        "succeeded",
        "requires_payment_method",
        "requires_action",
        "succeeded",
        "canceled",
    ]
    for found in (*listed, *shop.events()):
        validate_object(found)
    captured = [charge["captured"] for charge in shop.get("/v1/charges")["data"]]
    assert captured == [True, True]
