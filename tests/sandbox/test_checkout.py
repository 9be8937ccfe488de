"""Checkout Sessions: validation, payment and events."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import PURCHASE, Refused, Shop
from sandbox.test_meters import meter, metered_price


def test_fact_1_a_new_session_is_open_and_has_a_page_but_no_intent(shop: Shop) -> None:
    session = shop.session()
    assert (session.status, session.payment_status) == ("open", "unpaid")
    assert session.payment_intent is None
    assert session.amount_total == 1500
    assert session.url == f"{shop.sandbox.url}/c/pay/{session.id}"
    assert session.id.startswith("cs_test_a1")


def test_fact_3_a_card_payment_emits_its_events_in_stripes_order(shop: Shop) -> None:
    shop.paid(customer_creation="always")
    assert shop.types(*PURCHASE) == [
        "customer.created",
        "charge.succeeded",
        "payment_intent.succeeded",
        "payment_intent.created",
        "checkout.session.completed",
    ]
    shop.settle()
    assert shop.types(*PURCHASE)[-1] == "charge.updated"


def test_fact_4_the_balance_transaction_comes_with_charge_updated(shop: Shop) -> None:
    shop.paid()
    shop.settle()
    before = shop.events("charge.succeeded")[0]["data"]["object"]
    updated = shop.events("charge.updated")[0]["data"]
    assert before["balance_transaction"] is None
    assert updated["previous_attributes"] == {"balance_transaction": None}
    transaction = shop.get(f"/v1/balance_transactions/{updated['object']['balance_transaction']}")
    assert (transaction["amount"], transaction["fee"], transaction["net"]) == (1500, 73, 1427)


def test_each_event_contains_the_intent_as_it_was(shop: Shop) -> None:
    session = shop.paid()
    created = shop.events("payment_intent.created")[0]["data"]["object"]
    succeeded = shop.events("payment_intent.succeeded")[0]["data"]["object"]
    assert (created["status"], created["latest_charge"]) == ("requires_payment_method", None)
    assert (succeeded["status"], succeeded["amount_received"]) == ("succeeded", 1500)
    assert session["payment_intent"] == created["id"] == succeeded["id"]
    assert succeeded["capture_method"] == "automatic_async"


def test_fact_2_a_guest_gets_no_customer(shop: Shop) -> None:
    session = shop.paid()
    assert session["customer"] is None
    assert session["customer_details"]["email"] == "buyer@example.com"
    assert shop.get("/v1/customers")["data"] == []


def test_fact_5_metadata_is_stored_on_the_object_it_is_for(shop: Shop) -> None:
    session = shop.paid(
        metadata={"on": "session"}, payment_intent_data={"metadata": {"on": "intent"}}
    )
    intent = shop.v1.payment_intents.retrieve(
        session["payment_intent"], {"expand": ["latest_charge"]}
    ).to_dict()
    assert session["metadata"] == {"on": "session"}
    assert intent["metadata"] == intent["latest_charge"]["metadata"] == {"on": "intent"}


def test_fact_6_a_decline_leaves_the_session_open_and_payable(shop: Shop) -> None:
    session = shop.session()
    with pytest.raises(Refused) as caught:
        shop.pay(session.id, "pm_card_chargeDeclinedInsufficientFunds")
    error = caught.value.error
    assert (caught.value.status, error["type"]) == (402, "card_error")
    assert (error["code"], error["decline_code"]) == ("card_declined", "insufficient_funds")
    assert error["payment_intent"]["status"] == "requires_payment_method"
    assert shop.v1.checkout.sessions.retrieve(session.id).status == "open"
    paid = shop.pay(session.id)
    assert paid["payment_intent"] == error["payment_intent"]["id"], "all attempts share an intent"
    assert shop.types(*PURCHASE) == [
        "payment_intent.created",
        "charge.failed",
        "payment_intent.payment_failed",
        "charge.succeeded",
        "payment_intent.succeeded",
        "checkout.session.completed",
    ]


def test_a_payment_that_requires_authentication_waits_for_it(shop: Shop) -> None:
    session = shop.session().id
    waiting = shop.pay(session, "pm_card_threeDSecure2Required", authentication="ask")
    intent = shop.v1.payment_intents.retrieve(waiting["payment_intent"])
    assert (waiting["status"], intent.status) == ("open", "requires_action")
    with pytest.raises(Refused, match="unable to authenticate"):
        shop.pay(session, "pm_card_threeDSecure2Required", authentication="denied")
    assert shop.pay(session, "pm_card_threeDSecure2Required")["payment_status"] == "paid"


@pytest.mark.parametrize(
    ("iban", "status", "last"),
    [
        ("AT611904300234573201", "paid", "checkout.session.async_payment_succeeded"),
        ("AT861904300235473202", "unpaid", "checkout.session.async_payment_failed"),
    ],
)
def test_fact_7_a_direct_debit_completes_the_session_and_is_paid_later(
    shop: Shop, iban: str, status: str, last: str
) -> None:
    item = {"price": shop.price(currency="eur"), "quantity": 1}
    session = shop.session(line_items=[item])
    assert session.payment_method_types == ["card", "sepa_debit"]
    method = shop.v1.payment_methods.create({"type": "sepa_debit", "sepa_debit": {"iban": iban}})
    completed = shop.pay(session.id, method.id)
    assert (completed["status"], completed["payment_status"]) == ("complete", "unpaid")
    shop.settle()
    assert shop.v1.checkout.sessions.retrieve(session.id).payment_status == status
    assert shop.types("checkout") == ["checkout.session.completed", last]


def test_a_saved_card_can_only_be_used_by_its_own_customer(shop: Shop) -> None:
    ada = shop.v1.customers.create({"email": "ada@example.com"}).id
    card = shop.v1.payment_methods.attach("pm_card_visa", {"customer": ada}).id
    with pytest.raises(Refused, match="belongs to another customer"):
        shop.pay(shop.session("subscription").id, card)
    assert shop.types("charge") == []
    paid = shop.pay(shop.session("subscription", customer=ada).id, card)
    assert (paid["status"], paid["customer"]) == ("complete", ada)


def test_a_paid_session_cannot_be_paid_again(shop: Shop) -> None:
    session = shop.paid()
    assert session["url"] is None
    with pytest.raises(Refused, match="can no longer be paid"):
        shop.pay(session["id"])


def test_fact_8_a_session_expires_on_request_and_automatically(shop: Shop) -> None:
    told, forgotten = shop.session().id, shop.session().id
    expired = shop.v1.checkout.sessions.expire(told)
    assert (expired.status, expired.url) == ("expired", None)
    with pytest.raises(stripe.InvalidRequestError, match="can be expired"):
        shop.v1.checkout.sessions.expire(told)
    shop.sandbox.control("advance", seconds=24 * 3600)
    assert shop.v1.checkout.sessions.retrieve(forgotten).status == "expired"
    assert shop.types("checkout") == ["checkout.session.expired"] * 2


def test_fact_9_line_items_are_only_included_when_expanded(shop: Shop) -> None:
    session = shop.session()
    assert "line_items" not in shop.get(f"/v1/checkout/sessions/{session.id}")
    expanded = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["line_items"]})
    listed = shop.v1.checkout.sessions.line_items.list(session.id)
    assert expanded.line_items is not None
    assert expanded.line_items.data[0].id == listed.data[0].id
    assert listed.data[0].description == "Tea"


def test_stripes_cli_can_complete_a_session_through_its_payment_page(shop: Shop) -> None:
    session = shop.session(customer_email="ada@example.com")
    page = shop.get(f"/v1/payment_pages/{session.id}")
    path = f"/v1/payment_pages/{session.id}/confirm"
    wrong = shop.raw("POST", path, payment_method="pm_card_visa", expected_amount="1")
    assert wrong.status_code == 400
    amount = str(page["line_item_group"]["total"])
    answer = shop.raw("POST", path, payment_method="pm_card_visa", expected_amount=amount).json()
    assert (answer["status"], answer["payment_intent"]["status"]) == ("complete", "succeeded")


WRONG: list[tuple[dict[str, Any], str | None, str | None, str]] = [
    ({"line_items": []}, "parameter_missing", "line_items", "line items"),
    (
        {"line_items": [{"price": "price_gone", "quantity": 1}]},
        "resource_missing",
        "line_items[0][price]",
        "No such price: 'price_gone'",
    ),
    ({"customer": "cus_gone"}, "resource_missing", "customer", "No such customer"),
    ({"success_url": "nowhere"}, "url_invalid", "success_url", "Not a valid URL"),
    ({"mode": "lending"}, None, "mode", "must be one of"),
    ({"payment_method_types": ["card"]}, "parameter_unknown", "payment_method_types", "unknown"),
    ({"customer_email": "ada"}, "email_invalid", "customer_email", "Invalid email"),
    ({"expires_at": 1}, None, "expires_at", "at least 30 minutes"),
    ({"subscription_data": {"metadata": {}}}, None, "subscription_data", "subscription"),
]


@pytest.mark.parametrize(("given", "code", "param", "message"), WRONG)
def test_an_invalid_session_is_rejected_with_stripes_message(
    shop: Shop, given: dict[str, Any], code: str | None, param: str | None, message: str
) -> None:
    if "subscription_data" in given:
        given = {"subscription_data": {"description": "x"}}
    with pytest.raises(stripe.InvalidRequestError, match=message) as caught:
        shop.session(**given)
    assert (caught.value.http_status, caught.value.code, caught.value.param) == (400, code, param)


def test_prices_must_match_the_mode(shop: Shop) -> None:
    once = [{"price": shop.price(), "quantity": 1}]
    monthly = [{"price": shop.price(interval="month"), "quantity": 1}]
    with pytest.raises(stripe.InvalidRequestError, match="passed a recurring price"):
        shop.session("payment", line_items=monthly)
    with pytest.raises(stripe.InvalidRequestError, match="at least one recurring price"):
        shop.session("subscription", line_items=once)


def test_archived_prices_and_amounts_below_the_minimum_are_rejected(shop: Shop) -> None:
    archived = shop.price()
    shop.v1.prices.update(archived, {"active": False})
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        shop.session(line_items=[{"price": archived, "quantity": 1}])
    with pytest.raises(stripe.InvalidRequestError, match=r"at least 0\.50 usd"):
        shop.session(line_items=[{"price": shop.price(amount=10), "quantity": 1}])


def test_a_free_order_requires_no_payment(shop: Shop) -> None:
    session = shop.paid(line_items=[{"price": shop.price(amount=0), "quantity": 1}])
    assert session["payment_status"] == "no_payment_required"
    assert shop.types("charge", "payment_intent") == []


def test_a_metered_price_takes_no_quantity_and_adds_nothing(shop: Shop) -> None:
    made = meter(shop).id
    metered = metered_price(shop, made)
    assert (metered.recurring.usage_type, metered.recurring.meter) == ("metered", made)
    monthly = shop.price(interval="month")
    with pytest.raises(stripe.InvalidRequestError, match="Remove `quantity` from") as refused:
        shop.session(
            "subscription",
            line_items=[{"price": monthly, "quantity": 1}, {"price": metered.id, "quantity": 1}],
        )
    assert refused.value.param == "line_items[1]"
    with pytest.raises(stripe.InvalidRequestError, match="Add `quantity` to `line_items"):
        shop.session("subscription", line_items=[{"price": monthly}])
    session = shop.paid(
        "subscription", line_items=[{"price": monthly, "quantity": 1}, {"price": metered.id}]
    )
    assert session["amount_total"] == 1500
    subscription = shop.get(f"/v1/subscriptions/{session['subscription']}")
    first, second = subscription["items"]["data"]
    assert (first["quantity"], "quantity" in second) == (1, False)
    assert second["plan"]["usage_type"] == "metered"
    shop.sandbox.control("renew", subscription=subscription["id"])
    invoices = shop.get("/v1/invoices", subscription=subscription["id"])["data"]
    lines = [[line["amount"] for line in each["lines"]["data"]] for each in invoices]
    assert lines == [[1500, 0], [1500, 0]]  # nothing was used


def test_a_metered_price_alone_is_subscribed_to_without_a_charge(shop: Shop) -> None:
    price = metered_price(shop, meter(shop).id)
    session = shop.paid("subscription", line_items=[{"price": price.id}])
    assert (session["status"], session["amount_total"]) == ("complete", 0)
    assert shop.events("charge", "payment_intent") == []
    (invoice,) = shop.events("invoice.paid")
    assert invoice["data"]["object"]["amount_paid"] == 0


def test_a_metered_price_takes_no_quantity_in_a_subscription_by_api(
    shop: Shop,
) -> None:
    price = metered_price(shop, meter(shop).id)
    customer = shop.v1.customers.create({"email": "a@b.test"}).id
    with pytest.raises(stripe.InvalidRequestError, match="usage_type is `metered`"):
        shop.v1.subscriptions.create(
            {"customer": customer, "items": [{"price": price.id, "quantity": 1}]}
        )
    made = shop.v1.subscriptions.create({"customer": customer, "items": [{"price": price.id}]})
    assert made.status == "active"
    item = made["items"].data[0]
    changed = shop.v1.subscription_items.update(
        item.id, {"price": shop.price(interval="month"), "quantity": 3}
    )
    assert changed.quantity == 3
    back = shop.v1.subscription_items.update(item.id, {"price": price.id})
    assert "quantity" not in back.to_dict()
