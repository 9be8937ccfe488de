"""Checkout Sessions that collect more than a payment, and other places where they are shown."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Refused, Shop, web

FIELDS = [
    {"key": "size", "label": {"type": "custom", "custom": "Size"}, "type": "dropdown",
     "dropdown": {"options": [{"label": "Small", "value": "s"}, {"label": "Large", "value": "l"}]}},
    {"key": "engraving", "label": {"type": "custom", "custom": "Engraving"}, "type": "text",
     "optional": True, "text": {"maximum_length": 10}},
    {"key": "member", "label": {"type": "custom", "custom": "Member number"}, "type": "numeric",
     "numeric": {"minimum_length": 4}},
]  # fmt: skip
EVERYTHING: dict[str, Any] = {
    "billing_address_collection": "required",
    "consent_collection": {"promotions": "auto", "terms_of_service": "required"},
    "custom_fields": FIELDS,
    "custom_text": {"submit": {"message": "We ship on Mondays."}},
    "locale": "de",
    "phone_number_collection": {"enabled": True},
    "shipping_address_collection": {"allowed_countries": ["DE", "FR"]},
    "tax_id_collection": {"enabled": True},
}
ANSWERS: dict[str, Any] = {
    "custom_fields": {"size": "l", "member": "0042"},
    "phone": "+49301234",
    "promotions": True,
    "shipping": {"name": "Ada", "address": {"line1": "Weg 1", "city": "Berlin", "country": "DE"}},
    "tax_id": {"type": "eu_vat", "value": "DE123456789"},
}


def test_a_session_shows_what_it_collects(shop: Shop) -> None:
    session = shop.session(**EVERYTHING).to_dict()
    assert session["locale"] == "de"
    assert session["phone_number_collection"] == {"enabled": True}
    assert session["tax_id_collection"] == {"enabled": True, "required": "never"}
    assert session["custom_text"]["submit"] == {"message": "We ship on Mondays."}
    assert [field["key"] for field in session["custom_fields"]] == ["size", "engraving", "member"]
    assert session["custom_fields"][1]["text"]["maximum_length"] == 10
    assert (session["consent"], session["collected_information"]) == (None, None)


def test_a_paid_session_has_what_the_buyer_entered(shop: Shop) -> None:
    paid = shop.pay(shop.session(**EVERYTHING).id, **ANSWERS)
    details = paid["customer_details"]
    assert (details["phone"], details["address"]["line1"]) == ("+49301234", "1 Main Street")
    assert details["tax_ids"] == [ANSWERS["tax_id"]]
    assert paid["consent"] == {"promotions": "opt_in", "terms_of_service": "accepted"}
    values = [field[field["type"]]["value"] for field in paid["custom_fields"]]
    assert values == ["l", None, "0042"]
    shipping = paid["collected_information"]["shipping_details"]
    assert (shipping["name"], shipping["address"]["city"]) == ("Ada", "Berlin")
    intent = shop.get(f"/v1/payment_intents/{paid['payment_intent']}")
    assert (intent["shipping"]["name"], intent["shipping"]["phone"]) == ("Ada", "+49301234")
    completed = shop.events("checkout.session.completed")[0]["data"]["object"]
    assert completed["custom_fields"] == paid["custom_fields"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phone": None}, "phone number"),
        ({"terms_of_service": False}, "terms of service"),
        ({"custom_fields": {"size": "xl", "member": "0042"}}, "one of the options"),
        ({"custom_fields": {"size": "l", "member": "42"}}, "between 4 and 255"),
        ({"custom_fields": {"size": "l", "member": "fourty"}}, "must be digits"),
        ({"custom_fields": {"size": "l", "member": "0042", "engraving": "x" * 11}}, "0 and 10"),
        ({"shipping": None}, "recipient"),
        ({"shipping": {**ANSWERS["shipping"], "address": {"country": "US"}}}, "street address"),
        ({"address": {"line1": ""}}, "street address"),
    ],
)
def test_a_buyer_who_leaves_something_out_cannot_pay(
    shop: Shop, changes: dict[str, Any], message: str
) -> None:
    session = shop.session(**EVERYTHING)
    with pytest.raises(Refused, match=message):
        shop.pay(session.id, **{**ANSWERS, **changes})
    assert shop.types("charge", "payment_intent") == []
    assert shop.v1.checkout.sessions.retrieve(session.id).status == "open"


def test_shipping_is_only_possible_to_the_allowed_countries(shop: Shop) -> None:
    session = shop.session(shipping_address_collection={"allowed_countries": ["DE"]})
    address = {"line1": "1 Main St", "city": "Springfield", "country": "US"}
    with pytest.raises(Refused, match="does not ship"):
        shop.pay(session.id, shipping={"name": "Ada", "address": address})


def test_a_new_customer_gets_the_buyers_details_and_tax_id(shop: Shop) -> None:
    paid = shop.pay(shop.session(**EVERYTHING, customer_creation="always").id, **ANSWERS)
    customer = shop.get(f"/v1/customers/{paid['customer']}", **{"expand[]": "tax_ids"})
    assert (customer["phone"], customer["shipping"]["name"]) == ("+49301234", "Ada")
    assert [each["value"] for each in customer["tax_ids"]["data"]] == ["DE123456789"]
    assert shop.types("customer.tax_id") == ["customer.tax_id.created"]


def test_an_existing_customer_is_only_updated_as_the_session_allows(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "ada@example.com", "name": "Ada"}).id
    shop.pay(shop.session(customer=customer).id, name="Someone Else")
    assert shop.v1.customers.retrieve(customer).address is None
    update = {"address": "auto", "name": "auto"}
    given = {
        "customer": customer,
        "customer_update": update,
        "tax_id_collection": {"enabled": True},
    }
    shop.pay(shop.session(**given).id, name="Ada King", tax_id=ANSWERS["tax_id"])
    found = shop.get(f"/v1/customers/{customer}")
    assert (found["name"], found["address"]["city"]) == ("Ada King", "Springfield")
    listed = shop.v1.customers.tax_ids.list(customer).data
    assert [each.value for each in listed] == ["DE123456789"]
    shop.v1.customers.tax_ids.delete(customer, listed[0].id)
    assert shop.v1.customers.tax_ids.list(customer).data == []


def test_the_buyer_changes_an_adjustable_quantity(shop: Shop) -> None:
    item = {"price": shop.price(), "quantity": 1}
    item["adjustable_quantity"] = {"enabled": True, "maximum": 5}
    session = shop.session(line_items=[item], metadata={"order": "1"})
    with pytest.raises(Refused, match="between 0 and 5"):
        shop.pay(session.id, quantities={item["price"]: 6})
    paid = shop.pay(session.id, quantities={item["price"]: 3})
    listed = shop.v1.checkout.sessions.line_items.list(session.id).data
    assert (paid["amount_total"], listed[0].quantity) == (4500, 3)
    assert listed[0].adjustable_quantity.to_dict() == {"enabled": True, "maximum": 5, "minimum": 0}
    fixed = shop.session(line_items=[{"price": item["price"], "quantity": 1}])
    with pytest.raises(Refused, match="can't be changed"):
        shop.pay(fixed.id, quantities={item["price"]: 2})


def test_a_one_time_payment_can_have_an_invoice(shop: Shop) -> None:
    data = {"description": "Thank you", "metadata": {"order": "1"}, "footer": "Bye"}
    paid = shop.paid(invoice_creation={"enabled": True, "invoice_data": data})
    invoice = shop.get(f"/v1/invoices/{paid['invoice']}", **{"expand[]": "payments"})
    assert (invoice["status"], invoice["amount_paid"]) == ("paid", 1500)
    assert (invoice["billing_reason"], invoice["description"]) == ("manual", "Thank you")
    assert invoice["metadata"] == {"order": "1"}
    assert invoice["lines"]["data"][0]["description"] == "Tea"
    payment = invoice["payments"]["data"][0]["payment"]
    assert payment["payment_intent"] == paid["payment_intent"]
    assert paid["customer"] == invoice["customer"], "an invoice needs a customer"
    shop.settle()
    assert shop.types("invoice", "checkout") == [
        "checkout.session.completed",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
    ]


def test_the_payment_method_is_saved_for_later_on_request(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "ada@example.com"}).id
    data = {"setup_future_usage": "off_session"}
    shop.paid(customer=customer, payment_intent_data=data)
    assert len(shop.v1.customers.payment_methods.list(customer).data) == 1
    options = {"payment_method_save": "enabled"}
    session = shop.session(customer=customer, saved_payment_method_options=options)
    assert session.saved_payment_method_options.payment_method_save == "enabled"
    shop.pay(session.id, save_payment_method=True)
    saved = shop.v1.customers.payment_methods.list(customer).data
    assert [each.allow_redisplay for each in saved] == ["always", "unspecified"]
    page = web.get(str(shop.session(customer=customer).url)).text
    assert saved[0].id in page
    assert saved[1].id not in page


def test_setup_mode_saves_a_card_without_a_payment(shop: Shop) -> None:
    customer = shop.v1.customers.create({"email": "ada@example.com"}).id
    session = shop.v1.checkout.sessions.create(
        {
            "mode": "setup",
            "currency": "usd",
            "customer": customer,
            "success_url": "https://shop.example/thanks",
        }
    )
    paid = shop.pay(session.id)
    intent = shop.v1.setup_intents.retrieve(paid["setup_intent"])
    assert (intent.status, intent.customer) == ("succeeded", customer)
    assert shop.types("payment_method", "setup_intent", "checkout") == [
        "setup_intent.created",
        "payment_method.attached",
        "setup_intent.succeeded",
        "checkout.session.completed",
    ]


@pytest.mark.parametrize("mode", ["embedded_page", "elements"])
def test_an_embedded_session_has_a_client_secret_and_no_url(shop: Shop, mode: str) -> None:
    given = {
        "mode": "payment",
        "line_items": [{"price": shop.price(), "quantity": 1}],
        "return_url": "https://shop.example/return?session={CHECKOUT_SESSION_ID}",
        "ui_mode": mode,
    }
    session = shop.v1.checkout.sessions.create(given)
    assert (session.url, session.success_url, session.ui_mode) == (None, None, mode)
    assert session.client_secret.startswith(f"{session.id}_secret_")
    assert ("redirect_on_completion" in session.to_dict()) == (mode == "embedded_page")
    page = f"{shop.sandbox.url}/c/pay/{session.id}"
    card = {"number": "4242424242424242", "expiry": "12/34", "cvc": "123", "name": "Ada"}
    answer = web.post(page, data={**card, "email": "ada@example.com"})
    assert answer.headers["location"] == f"https://shop.example/return?session={session.id}"


def test_an_embedded_session_without_redirect_needs_no_return_url(shop: Shop) -> None:
    given: dict[str, Any] = {
        "mode": "payment",
        "line_items": [{"price": shop.price(), "quantity": 1}],
        "redirect_on_completion": "never",
        "ui_mode": "embedded_page",
    }
    assert "return_url" not in shop.v1.checkout.sessions.create(given).to_dict()
    with pytest.raises(stripe.InvalidRequestError, match="can not pass `return_url`"):
        shop.v1.checkout.sessions.create({**given, "return_url": "https://shop.example/"})


RULES: list[tuple[dict[str, Any], str, str | None]] = [
    ({"ui_mode": "embedded_page"}, "not supported with `ui_mode: embedded_page`: cancel_url, su",
     "cancel_url"),
    ({"ui_mode": "elements"}, "not supported with `ui_mode: elements`: cancel_url, success_url",
     "cancel_url"),
    ({"return_url": "https://shop.example"}, "`return_url` is not supported", "return_url"),
    ({"ui_mode": "custom"}, "must be one of", "ui_mode"),
    ({"custom_fields": [FIELDS[0]] * 2}, "must be unique", "custom_fields[0][key]"),
    ({"custom_fields": [*FIELDS, FIELDS[1]]}, "at most 3", "custom_fields"),
    ({"custom_fields": [{**FIELDS[0], "key": "a b"}]}, "alphanumeric", "custom_fields[0][key]"),
    ({"custom_fields": [{**FIELDS[1], "type": "dropdown"}]}, "only pass `text`",
     "custom_fields[0][text]"),
    ({"customer_update": {"name": "auto"}}, "only be used with `customer`", "customer_update"),
    ({"custom_text": {"terms_of_service_acceptance": {"message": "Yes"}}}, "terms_of_service",
     "custom_text[terms_of_service_acceptance]"),
    ({"payment_method_collection": "if_required"}, "only use `payment_method_collection` in",
     "payment_method_collection"),
    ({"subscription_data": {"trial_period_days": 7}}, "in `subscription` mode",
     "subscription_data"),
    ({"locale": "tlh"}, "must be one of", "locale"),
    ({"after_expiration": {"recovery": {"enabled": True}}}, "does not support it yet",
     "after_expiration"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message", "param"), RULES)
def test_options_that_stripe_refuses_are_refused_by_name(
    shop: Shop, given: dict[str, Any], message: str, param: str | None
) -> None:
    with pytest.raises(stripe.StripeError, match=message) as caught:
        shop.session(**given)
    assert caught.value.json_body["error"]["param"] == param


def test_tax_ids_of_an_existing_customer_require_saving_the_name(shop: Shop) -> None:
    customer = shop.v1.customers.create({}).id
    with pytest.raises(stripe.InvalidRequestError, match="please set `customer_update"):
        shop.session(customer=customer, tax_id_collection={"enabled": True})


def test_sessions_expire_when_they_are_told_to(shop: Shop) -> None:
    now = shop.sandbox.control("advance", seconds=0)["now"]
    session = shop.session(expires_at=now + 1850)
    shop.sandbox.control("advance", seconds=1860)
    assert shop.v1.checkout.sessions.retrieve(session.id).status == "expired"


PAGE = {
    "email": "ada@example.com", "number": "4242424242424242", "expiry": "12/34", "cvc": "123",
    "name": "Ada", "country": "DE", "postal_code": "10115", "line1": "Weg 1", "city": "Berlin",
    "phone": "+49301234", "shipping_name": "Ada", "shipping_country": "DE",
    "shipping_line1": "Weg 1", "shipping_city": "Berlin", "custom_size": "l",
    "custom_member": "0042", "terms_of_service": "on",
}  # fmt: skip


def test_the_page_shows_and_accepts_what_is_collected(shop: Shop) -> None:
    session = shop.session(**EVERYTHING)
    page = web.get(str(session.url)).text
    for shown in ("Phone number", "Recipient", "Size", "Engraving", "We ship on Mondays", "Tax ID"):
        assert shown in page
    refused = web.post(str(session.url), data={**PAGE, "custom_size": ""}).text
    assert "Fill in “Size”" in refused
    assert 'aria-invalid="true"' in refused.split('id="custom-size"')[1].split(">")[0]
    assert web.post(str(session.url), data=PAGE).status_code == 303
    paid = shop.get(f"/v1/checkout/sessions/{session.id}")
    assert paid["customer_details"]["phone"] == "+49301234"
    assert paid["custom_fields"][0]["dropdown"]["value"] == "l"


def test_the_page_keeps_everything_while_the_card_is_authenticated(shop: Shop) -> None:
    session = shop.session(**EVERYTHING)
    step = web.post(str(session.url), data={**PAGE, "number": "4000002760003184"})
    web.post(step.headers["location"], data={"decision": "confirmed"})
    paid = shop.get(f"/v1/checkout/sessions/{session.id}")
    assert (paid["status"], paid["customer_details"]["phone"]) == ("complete", "+49301234")
    assert paid["collected_information"]["shipping_details"]["address"]["city"] == "Berlin"


def test_a_debit_has_its_invoice_once_it_has_succeeded(shop: Shop) -> None:
    item = {"price": shop.price(currency="eur"), "quantity": 1}
    session = shop.session(line_items=[item], invoice_creation={"enabled": True})
    debit = {"type": "sepa_debit", "sepa_debit": {"iban": "AT611904300234573201"}}
    waiting = shop.pay(session.id, shop.v1.payment_methods.create(debit).id)
    assert (waiting["payment_status"], waiting["invoice"]) == ("unpaid", None)
    shop.settle()
    found = shop.v1.checkout.sessions.retrieve(session.id, {"expand": ["invoice"]})
    assert (found.payment_status, found.invoice.amount_paid) == ("paid", 1500)


def test_an_older_api_version_has_its_own_names_of_the_ui_modes(shop: Shop) -> None:
    answer = shop.raw(
        "POST",
        "/v1/checkout/sessions",
        {"Stripe-Version": "2025-09-30.clover"},
        **{
            "mode": "payment",
            "ui_mode": "custom",
            "return_url": "https://shop.example/return",
            "line_items[0][price]": shop.price(),
            "line_items[0][quantity]": "1",
        },
    ).json()
    assert answer["ui_mode"] == "custom"
    assert shop.v1.checkout.sessions.retrieve(answer["id"]).ui_mode == "elements"


def test_a_checkout_does_not_use_the_customers_balance(shop: Shop) -> None:
    """Its invoice says what was paid."""
    first = shop.paid("subscription")
    item = shop.get(f"/v1/subscriptions/{first['subscription']}")["items"]["data"][0]["id"]
    cheaper = {"id": item, "price": shop.price(500, interval="month")}
    change = {"items": [cheaper], "proration_behavior": "always_invoice"}
    shop.v1.subscriptions.update(first["subscription"], change)
    balance = shop.v1.customers.retrieve(first["customer"]).balance
    assert balance < 0
    paid = shop.paid(customer=first["customer"], invoice_creation={"enabled": True})
    assert shop.v1.invoices.retrieve(paid["invoice"]).amount_paid == paid["amount_total"] == 1500
    assert shop.v1.customers.retrieve(first["customer"]).balance == balance
