"""What a Checkout Session costs: shipping, taxes, coupons and promotion codes."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Refused, Shop, web

GERMAN = {"country": "DE"}
TAXED = {"automatic_tax": {"enabled": True}}


def rate(shop: Shop, amount: int = 500, **given: Any) -> Any:
    fixed = {"amount": amount, "currency": "usd"}
    return shop.v1.shipping_rates.create(
        {"display_name": f"Post {amount}", "type": "fixed_amount", "fixed_amount": fixed, **given}
    )


def test_shipping_rates_are_created_changed_and_listed(shop: Shop) -> None:
    estimate = {"minimum": {"unit": "business_day", "value": 2}}
    made = rate(shop, delivery_estimate=estimate, metadata={"a": "b"})
    assert made.id.startswith("shr_")
    assert made.delivery_estimate.to_dict() == {**estimate, "maximum": None}
    shop.v1.shipping_rates.update(made.id, {"active": False, "tax_behavior": "exclusive"})
    with pytest.raises(stripe.InvalidRequestError, match="can't change `tax_behavior`"):
        shop.v1.shipping_rates.update(made.id, {"tax_behavior": "inclusive"})
    other = rate(shop)
    assert [each.id for each in shop.v1.shipping_rates.list({"active": True}).data] == [other.id]
    with pytest.raises(stripe.InvalidRequestError, match="inactive"):
        shop.session(shipping_options=[{"shipping_rate": made.id}])


def test_the_buyer_selects_a_shipping_option(shop: Shop) -> None:
    fixed = {"amount": 900, "currency": "usd"}
    data = {"display_name": "Express", "type": "fixed_amount", "fixed_amount": fixed}
    options = [{"shipping_rate": rate(shop).id}, {"shipping_rate_data": data}]
    collection = {"allowed_countries": ["US"]}
    session = shop.session(shipping_options=options, shipping_address_collection=collection)
    assert (session.amount_subtotal, session.amount_total) == (1500, 2000)
    assert session.shipping_cost.shipping_rate == options[0]["shipping_rate"]
    paid = shop.pay(session.id, shipping_rate="Express")
    assert paid["amount_total"] == 2400
    assert paid["total_details"]["amount_shipping"] == 900
    assert paid["shipping_cost"]["amount_total"] == 900
    intent = shop.get(f"/v1/payment_intents/{paid['payment_intent']}")
    assert intent["amount_received"] == 2400
    expanded = shop.v1.checkout.sessions.retrieve(
        session.id,
        {"expand": ["shipping_cost.shipping_rate", "shipping_options.shipping_rate"]},
    ).to_dict()
    assert expanded["shipping_cost"]["shipping_rate"]["display_name"] == "Express"
    assert expanded["shipping_options"][0]["shipping_rate"]["display_name"] == "Post 500"


def test_shipping_options_are_for_payments_in_their_currency(shop: Shop) -> None:
    options = [{"shipping_rate": rate(shop).id}]
    with pytest.raises(stripe.InvalidRequestError, match="in `payment` mode"):
        shop.session("subscription", shipping_options=options)
    euro = [{"price": shop.price(currency="eur"), "quantity": 1}]
    with pytest.raises(stripe.InvalidRequestError, match="must have the currency"):
        shop.session(line_items=euro, shipping_options=options)


def priced(shop: Shop, amount: int, behavior: str, **given: Any) -> dict[str, Any]:
    data = {
        "currency": "eur",
        "unit_amount": amount,
        "tax_behavior": behavior,
        "product_data": {"name": "Tea"},
        **given,
    }
    return {"price_data": data, "quantity": 1}


@pytest.mark.parametrize(
    ("behavior", "tax", "total"), [("exclusive", 1900, 11900), ("inclusive", 1597, 10000)]
)
def test_automatic_tax_follows_the_buyers_country(
    shop: Shop, behavior: str, tax: int, total: int
) -> None:
    session = shop.session(line_items=[priced(shop, 10000, behavior)], **TAXED)
    assert session.automatic_tax.status == "requires_location_inputs"
    assert (session.amount_total, session.total_details.amount_tax) == (10000, 0)
    paid = shop.pay(session.id, **GERMAN)
    assert paid["automatic_tax"]["status"] == "complete"
    assert (paid["amount_subtotal"], paid["amount_total"]) == (10000, total)
    assert paid["total_details"]["amount_tax"] == tax
    item = shop.get(f"/v1/checkout/sessions/{session.id}/line_items", **{"expand[]": "data.taxes"})[
        "data"
    ][0]
    assert (item["amount_tax"], item["taxes"][0]["rate"]["percentage"]) == (tax, 19.0)
    breakdown = shop.v1.checkout.sessions.retrieve(
        session.id, {"expand": ["total_details.breakdown"]}
    ).total_details.breakdown
    assert [each.amount for each in breakdown.taxes] == [tax]
    rates = shop.v1.tax_rates.list().data
    assert [(each.country, each.inclusive) for each in rates] == [("DE", behavior == "inclusive")]


def test_an_existing_customer_needs_an_address_for_automatic_tax(shop: Shop) -> None:
    nowhere = shop.v1.customers.create({}).id
    with pytest.raises(stripe.InvalidRequestError, match="requires a valid address") as caught:
        shop.session(customer=nowhere, **TAXED)
    assert caught.value.code == "customer_tax_location_invalid"
    address = {"country": "DE"}
    german = shop.v1.customers.create({"address": address, "email": "a@b.co"}).id
    session = shop.session(customer=german, line_items=[priced(shop, 10000, "exclusive")], **TAXED)
    assert (session.amount_total, session.automatic_tax.status) == (11900, "complete")
    exempt = shop.v1.customers.create({"address": address, "tax_exempt": "reverse"}).id
    session = shop.session(customer=exempt, line_items=[priced(shop, 10000, "exclusive")], **TAXED)
    assert session.amount_total == 10000


def test_a_taxed_discounted_and_shipped_order_has_the_same_invoice(shop: Shop) -> None:
    coupon = shop.v1.coupons.create({"percent_off": 25})
    fixed = {"amount": 333, "currency": "eur"}
    data = {"display_name": "Post", "fixed_amount": fixed, "tax_behavior": "exclusive"}
    items = [priced(shop, 1999, "exclusive"), priced(shop, 705, "exclusive")]
    paid = shop.paid(
        line_items=items,
        discounts=[{"coupon": coupon.id}],
        invoice_creation={"enabled": True},
        shipping_options=[{"shipping_rate_data": data}],
        **TAXED,
    )
    invoice = shop.get(f"/v1/invoices/{paid['invoice']}")
    details = paid["total_details"]
    assert details["amount_discount"] == 676
    assert invoice["total"] == invoice["amount_paid"] == paid["amount_total"]
    assert sum(each["amount"] for each in invoice["total_taxes"]) == details["amount_tax"]
    assert invoice["total_discount_amounts"][0]["amount"] == 676
    assert invoice["shipping_cost"]["amount_total"] == paid["shipping_cost"]["amount_total"]


def code_for(shop: Shop, name: str = "LAUNCH", **coupon: Any) -> Any:
    made = shop.v1.coupons.create(coupon or {"percent_off": 20})
    promotion = {"type": "coupon", "coupon": made.id}
    return shop.v1.promotion_codes.create({"promotion": promotion, "code": name})


def test_the_buyer_enters_a_promotion_code(shop: Shop) -> None:
    code = code_for(shop)
    session = shop.session(allow_promotion_codes=True)
    with pytest.raises(Refused, match="This code is invalid"):
        shop.pay(session.id, promotion_code="LUNCH")
    paid = shop.pay(session.id, promotion_code="launch")
    assert (paid["amount_total"], paid["total_details"]["amount_discount"]) == (1200, 300)
    assert paid["discounts"] == [{"coupon": None, "promotion_code": code.id}]
    assert shop.v1.promotion_codes.retrieve(code.id).times_redeemed == 1
    with pytest.raises(Refused, match="does not accept promotion codes"):
        shop.pay(shop.session().id, promotion_code="LAUNCH")


def test_the_page_applies_a_code_and_never_charges_a_total_it_did_not_show(shop: Shop) -> None:
    code_for(shop)
    session = shop.session(allow_promotion_codes=True)
    card = {"number": "4242424242424242", "expiry": "12/34", "cvc": "123", "name": "Ada"}
    form = {**card, "email": "ada@example.com", "promotion_code": "LAUNCH"}
    shown = web.post(str(session.url), data={**form, "shown": "1500"})
    assert "The total is now $12.00" in shown.text
    assert shop.types("charge") == []
    other = shop.session(allow_promotion_codes=True)
    updated = web.post(str(other.url), data={"action": "update", "promotion_code": "LAUNCH"})
    assert 'name="shown" value="1200"' in updated.text
    assert web.post(str(other.url), data={**form, "shown": "1200"}).status_code == 303
    wrong = web.post(str(session.url), data={"action": "update", "promotion_code": "NOPE"})
    assert "This code is invalid" in wrong.text


DURATIONS = [
    ({"duration": "once", "percent_off": 50}, [750, 1500, 1500]),
    ({"duration": "repeating", "duration_in_months": 2, "percent_off": 50}, [750, 750, 1500]),
    ({"duration": "forever", "amount_off": 500, "currency": "usd"}, [1000, 1000, 1000]),
]


@pytest.mark.parametrize(("coupon", "totals"), DURATIONS)
def test_a_coupon_on_a_subscription_lasts_as_long_as_it_says(
    shop: Shop, coupon: dict[str, Any], totals: list[int]
) -> None:
    made = shop.v1.coupons.create(coupon)
    session = shop.session("subscription", discounts=[{"coupon": made.id}])
    assert session.amount_total == totals[0]
    paid = shop.pay(session.id)
    subscription = paid["subscription"]
    events = shop.types("customer.discount")
    for _ in totals[1:]:
        shop.sandbox.control("advance", seconds=31 * 86400 + 7200)
        events += shop.types("customer.discount")  # Events are listed for 30 days.
    invoices = shop.get("/v1/invoices", subscription=subscription)["data"][::-1]
    assert [each["amount_paid"] for each in invoices] == totals
    assert [each["subtotal"] for each in invoices] == [1500] * 3
    ended = coupon["duration"] != "forever"
    assert events == [
        "customer.discount.created",
        *(["customer.discount.deleted"] if ended else []),
    ]
    found = shop.v1.subscriptions.retrieve(subscription, {"expand": ["discounts.source.coupon"]})
    assert [each.source.coupon.id for each in found.discounts] == ([] if ended else [made.id])


def test_taxes_of_a_subscription_are_on_each_invoice(shop: Shop) -> None:
    item = priced(shop, 10000, "exclusive", recurring={"interval": "month"})
    paid = shop.pay(shop.session("subscription", line_items=[item], **TAXED).id, **GERMAN)
    assert paid["amount_total"] == 11900
    shop.sandbox.control("renew", subscription=paid["subscription"])
    invoices = shop.get("/v1/invoices", subscription=paid["subscription"])["data"]
    assert [each["total"] for each in invoices] == [11900, 11900]
    assert [each["total_excluding_tax"] for each in invoices] == [10000, 10000]
    assert all(each["automatic_tax"]["status"] == "complete" for each in invoices)
    assert invoices[0]["total_taxes"][0]["taxability_reason"] == "standard_rated"
