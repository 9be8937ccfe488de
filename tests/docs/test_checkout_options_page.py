"""docs/how-to/checkout-options.md: each example is sent as it stands there."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from http_tokens import ADMIN_KEY, USER
from pages import all_blocks, block, blocks
from selling import Shop

PAGE = "docs/how-to/checkout-options.md"
EXAMPLES = blocks(PAGE, "json")
URLS = {"successUrl": "https://shop.example/done", "cancelUrl": "https://shop.example/cart"}


def prepared(shop: Shop, example: str) -> dict[str, Any]:
    """A whole request, with what the example names at Stripe."""
    stripe = shop.account.client.v1
    body: dict[str, Any] = json.loads(example)
    mode, options = body["mode"], body.get("options", {})
    if "lineItems" not in body and mode != "setup":
        price = shop.plan() if mode == "subscription" else shop.price()
        body["lineItems"] = [{"priceId": price}]
    if options.get("uiMode", "hosted_page") == "hosted_page":
        body |= URLS
    if "seat_monthly" in example:
        shop.plan(lookup_key="seat_monthly")
        shop.deliver()
    if "LAUNCH20" in example:
        stripe.coupons.create({"id": "LAUNCH20", "percent_off": 20, "duration": "once"})
    for option in options.get("shippingOptions", []):
        amount = {"amount": 500, "currency": "eur"}
        rate: Any = {"display_name": "Post", "type": "fixed_amount", "fixed_amount": amount}
        option["shippingRate"] = stripe.shipping_rates.create(rate).id
    if "expiresAt" in options:
        options["expiresAt"] = f"{datetime.now(UTC) + timedelta(hours=2):%Y-%m-%dT%H:%M:%SZ}"
    return {"subject": {"type": "user", "id": USER}, **body}


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_is_accepted_and_can_be_paid(shop: Shop, example: str) -> None:
    body = prepared(shop, example)
    session = shop.open(body, ADMIN_KEY if "actAs" in body else None)
    assert session["status"] == "open"
    shop.pay(session)
    shop.deliver()
    row = shop.row(session)
    assert row["status"] == "completed"
    assert row["options"].keys() == body.get("options", {}).keys()


@pytest.mark.parametrize("example", [each for each in EXAMPLES if "actAs" in each])
def test_a_browser_gets_a_403_for_what_the_server_decides(shop: Shop, example: str) -> None:
    body = prepared(shop, example)
    del body["actAs"]
    refused = shop.ask(body)
    assert (refused.status_code, refused.json()["error"]) == (403, "FORBIDDEN")


def test_most_examples_are_run() -> None:
    idle = [each for each in all_blocks(PAGE) if each.language == "json" and each.reason]
    assert (len(idle), len(EXAMPLES)) == (2, 14)


def test_existing_customers_get_tax_too(shop: Shop) -> None:
    """Stripe requires that their address and name may be updated."""
    shop.pay(shop.open(shop.order(shop.price(), "payment")))
    shop.deliver()
    tax = prepared(shop, block(PAGE, "json", "taxIdRequired"))
    shop.pay(shop.open(tax))


def test_answers_to_questions_are_in_the_event(shop: Shop) -> None:
    session = shop.open(prepared(shop, block(PAGE, "json", "engraving")))
    shop.pay(session, custom_fields={"engraving": "Ada", "size": "l"})
    shop.deliver()
    row = shop.api.books.row(
        """SELECT payload #> '{data,object,custom_fields}' AS answers FROM payments.webhook_events
        WHERE event_type = 'checkout.session.completed'"""
    )
    found = {each["key"]: each[each["type"]]["value"] for each in row["answers"]}
    assert found == {"engraving": "Ada", "size": "l"}


def test_the_quantity_that_was_bought_is_in_the_mirror(shop: Shop) -> None:
    body = prepared(shop, block(PAGE, "json", "adjustableQuantity"))
    session = shop.open(body)
    price = shop.row(session)["line_items"][0]["priceId"]
    shop.pay(session, quantities={price: 7})
    shop.deliver()
    assert shop.api.books.row("SELECT quantity FROM payments.stripe_subscription_items") == {
        "quantity": 7
    }
    assert shop.row(session)["line_items"][0]["quantity"] == 3


def test_the_policy_limits_countries(shop: Shop) -> None:
    shop.api.books.execute(block(PAGE, "sql", "ship_nearby"))
    body = shop.order(shop.price(), "payment")
    shop.open(body)
    for countries, status in ((["AT"], 201), (["AT", "DE"], 201), (["AT", "US"], 403)):
        options = {"shippingAddressCollection": {"allowedCountries": countries}}
        assert shop.ask({**body, "options": options}).status_code == status
