"""The hosted pages, requested without a browser."""

from __future__ import annotations

import re

import httpx
import pytest
import stripe

from sandbox.shop import Shop, web

CARD = {
    "email": "ada@example.com",
    "number": "4242 4242 4242 4242",
    "expiry": "12 / 34",
    "cvc": "123",
    "name": "Ada Lovelace",
    "country": "GB",
    "postal_code": "N1",
}


def submit(url: str | None, **changes: str) -> httpx.Response:
    return web.post(str(url), data={**CARD, **changes})


def test_the_page_shows_the_items_and_the_total(shop: Shop) -> None:
    item = {"price": shop.price(4900, "eur"), "quantity": 2}
    page = web.get(str(shop.session(line_items=[item]).url))
    assert page.status_code == 200
    assert "Tea" in page.text
    assert "€98.00" in page.text
    assert "No real money" in page.text
    assert 'href="https://shop.example/basket"' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    scripts = re.findall(r"<script.*?</script>", page.text)
    assert scripts == ['<script src="/_pages/forms.js" defer></script>'], "none is inline"


def test_paying_redirects_to_the_success_url(shop: Shop) -> None:
    session = shop.session()
    answer = submit(session.url)
    assert answer.status_code == 303
    assert answer.headers["location"] == f"https://shop.example/thanks?session={session.id}"
    paid = shop.get(f"/v1/checkout/sessions/{session.id}")
    assert paid["payment_status"] == "paid"
    details = paid["customer_details"]
    assert (details["email"], details["name"]) == ("ada@example.com", "Ada Lovelace")
    assert details["address"]["country"] == "GB"
    assert "already completed" in web.get(str(session.url)).text


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": "4000 0000 0000 0002"}, "Your card was declined."),
        ({"number": "4000 0000 0000 9995"}, "insufficient funds"),
        ({"number": "4242 4242 4242 4241"}, "card number is incorrect"),
        ({"expiry": "13 / 34"}, "expiration date"),
        ({"cvc": "1"}, "security code"),
        ({"email": "ada"}, "Enter a valid email address"),
        ({"name": ""}, "Enter the name"),
    ],
)
def test_an_error_or_decline_is_shown_and_can_be_corrected(
    shop: Shop, changes: dict[str, str], message: str
) -> None:
    session = shop.session()
    refused = submit(session.url, **changes)
    assert message in refused.text
    assert 'role="alert"' in refused.text
    assert submit(session.url).status_code == 303


def test_all_errors_of_a_form_are_shown_at_once_beside_their_fields(shop: Shop) -> None:
    session = shop.session(
        phone_number_collection={"enabled": True},
        shipping_address_collection={"allowed_countries": ["AT"]},
    )
    invalid = {"email": "ada", "number": "4242", "expiry": "soon", "cvc": "", "name": ""}
    page = submit(session.url, shipping_country="AT", **invalid).text
    wrong = [
        *("email", "phoneNumber", "shippingName", "shippingAddressLine1", "shippingLocality"),
        *("cardNumber", "cardExpiry", "cardCvc", "billingName"),
    ]
    assert re.findall(r'<li><a href="#(\w+)">', page) == wrong, "in the order of the page"
    for field in wrong:
        attributes = rf'id="{field}" [^>]*aria-invalid="true" aria-describedby="{field}-error"'
        assert re.search(attributes, page), field
        assert f'id="{field}-error"' in page, field
    assert re.findall(r'id="(\w+)" [^>]*autofocus', page) == ["email"]
    assert 'value="soon"' in page, "nothing has to be entered again"
    assert shop.types("payment_method", "customer") == []


def test_a_test_card_fills_in_the_form_without_scripts(shop: Shop) -> None:
    session = shop.session()
    page = web.get(str(session.url)).text
    groups = re.findall(r"<h3>(.*?)</h3>", page)
    assert groups == ["Succeeds", "Authentication", "Declined", "Refunds and disputes"]
    answers = {"email": "ada@example.com", "test_number": "3782 822463 10005"}
    filled = web.post(str(session.url), data=answers).text
    values = dict(re.findall(r'<input id="\w+" name="(\w+)"[^>]*value="([^"]*)"', filled))
    assert values["number"] == "3782 822463 10005"
    assert values["email"] == "ada@example.com", "what was entered stays"
    assert "error" not in re.findall(r'data-testid="(\w+)"', filled)
    assert web.post(str(session.url), data=values).status_code == 303


def test_the_page_shows_products_and_what_they_cost(shop: Shop) -> None:
    local, remote = "http://127.0.0.1:9/mug.svg", "https://cdn.example/mug.svg"
    prices = [
        shop.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount": 1450,
                "product": shop.v1.products.create(
                    {"name": "Mug", "description": "Holds 330 ml.", "images": images}
                ).id,
            }
        ).id
        for images in ([remote, local], [remote])
    ]
    shop.sandbox.control("account", key=shop.key, name="Hook & Co.")
    page = web.get(str(shop.session(line_items=[{"price": p, "quantity": 2} for p in prices]).url))
    assert "Hook &amp; Co." in page.text
    assert "Holds 330 ml." in page.text
    assert "$14.50 each" in page.text
    assert re.findall(r'<img [^>]*src="([^"]+)"', page.text) == [local], "nothing from other hosts"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, ["$15.00 per month", "Subscribe<"]),
        (
            {"subscription_data": {"trial_period_days": 14}},
            ["14 days free", "Then $15.00 per month", "Start trial<"],
        ),
    ],
)
def test_the_page_says_what_a_subscription_costs(
    shop: Shop, given: dict[str, object], shown: list[str]
) -> None:
    page = web.get(str(shop.session("subscription", **given).url)).text
    said = re.sub(r"</?span[^>]*>", "", page)
    assert [text for text in shown if text not in said] == []


@pytest.mark.parametrize("number", ["4000002500003155", "4000002760003184"])
def test_some_cards_require_authentication(shop: Shop, number: str) -> None:
    session = shop.session()
    asked = submit(session.url, number=number)
    step = asked.headers["location"]
    assert "Confirm your payment" in web.get(step).text
    denied = web.post(step, data={"decision": "denied"})
    assert "unable to authenticate" in denied.text
    step = submit(session.url, number=number).headers["location"]
    confirmed = web.post(step, data={"decision": "confirmed"})
    assert confirmed.headers["location"].endswith(session.id)
    assert shop.v1.checkout.sessions.retrieve(session.id).payment_status == "paid"


def test_an_expired_or_unknown_session_is_reported(shop: Shop) -> None:
    session = shop.session()
    shop.v1.checkout.sessions.expire(session.id)
    assert "has expired" in web.get(str(session.url)).text
    assert "has expired" in submit(session.url).text
    unknown = web.get(f"{shop.sandbox.url}/c/pay/cs_test_unknown")
    assert unknown.status_code == 404


def test_a_known_email_is_prefilled_and_cannot_be_changed(shop: Shop) -> None:
    session = shop.session(customer_email="known@example.com")
    assert 'value="known@example.com"' in web.get(str(session.url)).text
    submit(session.url, email="other@example.com")
    details = shop.get(f"/v1/checkout/sessions/{session.id}")["customer_details"]
    assert details["email"] == "known@example.com"


def test_euro_payments_can_be_debited(shop: Shop) -> None:
    session = shop.session(line_items=[{"price": shop.price(currency="eur"), "quantity": 1}])
    answer = submit(session.url, method="sepa_debit", iban="AT61 1904 3002 3457 3201")
    assert answer.status_code == 303
    found = shop.v1.checkout.sessions.retrieve(session.id)
    assert (found.status, found.payment_status) == ("complete", "unpaid")


def test_product_names_are_escaped_on_the_page(shop: Shop) -> None:
    price = shop.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 900,
            "product_data": {"name": "<script>alert(1)</script>"},
        }
    )
    page = web.get(str(shop.session(line_items=[{"price": price.id, "quantity": 1}]).url))
    assert "<script>" not in page.text


def test_the_portal_cancels_and_resumes_a_subscription(shop: Shop) -> None:
    paid = shop.paid("subscription")
    portal = shop.v1.billing_portal.sessions.create(
        {"customer": paid["customer"], "return_url": "https://shop.example/account"}
    )
    page = web.get(portal.url)
    assert "Your next billing date is" in page.text
    assert 'href="https://shop.example/account"' in page.text
    form = {"subscription": paid["subscription"], "action": "cancel"}
    cancelled = web.post(portal.url, data=form, follow_redirects=True)
    assert "will be canceled on" in cancelled.text
    assert shop.v1.subscriptions.retrieve(paid["subscription"]).cancel_at_period_end
    resumed = web.post(portal.url, data={**form, "action": "resume"}, follow_redirects=True)
    assert "Your next billing date is" in resumed.text


def test_the_portal_cannot_change_subscriptions_of_others(shop: Shop) -> None:
    mine, theirs = shop.paid("subscription"), shop.paid("subscription")
    portal = shop.v1.billing_portal.sessions.create({"customer": mine["customer"]})
    web.post(portal.url, data={"subscription": theirs["subscription"], "action": "cancel"})
    assert not shop.v1.subscriptions.retrieve(theirs["subscription"]).cancel_at_period_end


def test_a_portal_needs_an_existing_customer(shop: Shop) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such customer") as caught:
        shop.v1.billing_portal.sessions.create({"customer": "cus_gone"})
    assert caught.value.param == "customer"
