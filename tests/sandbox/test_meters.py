"""Meters, meter events, and the prices that bill usage."""

from __future__ import annotations

from email.utils import parsedate_to_datetime
from typing import Any

import pytest
import stripe

from sandbox.shop import Refused, Shop

MINUTE = 60


def meter(shop: Shop, event_name: str = "api_calls", **given: Any) -> Any:
    return shop.v1.billing.meters.create(
        {
            "display_name": "API calls",
            "event_name": event_name,
            "default_aggregation": {"formula": "sum"},
            **given,
        }
    )


def metered_price(shop: Shop, meter_id: str, **given: Any) -> Any:
    amount = {} if "billing_scheme" in given else {"unit_amount": 20}
    return shop.v1.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "API calls"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter_id},
            **amount,
            **given,
        }
    )


def report(shop: Shop, customer: str, value: str = "1", **given: Any) -> Any:
    payload = {"stripe_customer_id": customer, "value": value}
    return shop.v1.billing.meter_events.create(
        {"event_name": "api_calls", "payload": payload, **given}
    )


def now_of(shop: Shop) -> int:
    """The sandbox's time, which other tests advance."""
    return int(parsedate_to_datetime(shop.raw("GET", "/v1/account").headers["date"]).timestamp())


def summed(shop: Shop, meter_id: str, customer: str, **given: Any) -> list[float]:
    now = now_of(shop) // MINUTE * MINUTE
    asked = {"customer": customer, "start_time": now - 10 * MINUTE, "end_time": now + 10 * MINUTE}
    found = shop.v1.billing.meters.event_summaries.list(meter_id, {**asked, **given})
    return [summary.aggregated_value for summary in found.data]


@pytest.fixture
def customer(shop: Shop) -> str:
    return str(shop.v1.customers.create({"payment_method": "pm_card_visa"}).id)


def test_a_meter_is_created_changed_deactivated_and_reactivated(shop: Shop) -> None:
    made = meter(shop)
    assert (made.status, made.customer_mapping.event_payload_key) == (
        "active",
        "stripe_customer_id",
    )
    with pytest.raises(stripe.InvalidRequestError, match="already an active meter"):
        meter(shop)
    assert shop.v1.billing.meters.update(made.id, {"display_name": "Calls"}).display_name == "Calls"
    assert shop.v1.billing.meters.deactivate(made.id).status_transitions.deactivated_at
    second = meter(shop)
    with pytest.raises(stripe.InvalidRequestError, match="already an active meter"):
        shop.v1.billing.meters.reactivate(made.id)
    shop.v1.billing.meters.deactivate(second.id)
    assert shop.v1.billing.meters.reactivate(made.id).status == "active"
    active = shop.v1.billing.meters.list({"status": "active"})
    assert [found.id for found in active.data] == [made.id]
    assert shop.types("billing.meter") == [
        "billing.meter.created",
        "billing.meter.updated",
        "billing.meter.deactivated",
        "billing.meter.created",
        "billing.meter.deactivated",
        "billing.meter.reactivated",
    ]


def test_meter_events_are_summed(shop: Shop, customer: str) -> None:
    made = meter(shop)
    for value in ("3", "4", "-2"):
        report(shop, customer, value)
    assert summed(shop, made.id, customer) == [5]
    assert summed(shop, made.id, shop.v1.customers.create({}).id) == []


def test_fact_46_an_identifier_counts_once_within_a_day(shop: Shop, customer: str) -> None:
    made = meter(shop)
    assert report(shop, customer, "3", identifier="one").identifier == "one"
    with pytest.raises(stripe.InvalidRequestError) as refused:
        report(shop, customer, "3", identifier="one")
    assert "An event already exists with identifier one." in str(refused.value)
    assert (refused.value.http_status, refused.value.code) == (400, None)
    assert summed(shop, made.id, customer) == [3]


@pytest.mark.parametrize(("formula", "expected"), [("count", 3), ("last", 9), ("sum", 14)])
def test_a_meter_aggregates_by_its_formula(
    shop: Shop, customer: str, formula: str, expected: int
) -> None:
    made = meter(shop, default_aggregation={"formula": formula})
    now = now_of(shop)
    for value, at in (("4", now - 20), ("9", now - 5), ("1", now - 10)):
        report(shop, customer, value, timestamp=at)
    assert summed(shop, made.id, customer) == [expected]


def test_summaries_are_grouped_by_hour(shop: Shop, customer: str) -> None:
    made = meter(shop)
    hour = now_of(shop) // 3600 * 3600
    for hours, value in ((3, "1"), (3, "2"), (1, "5")):
        report(shop, customer, value, timestamp=hour - hours * 3600 + 7)
    asked = {"start_time": hour - 5 * 3600, "end_time": hour, "value_grouping_window": "hour"}
    assert summed(shop, made.id, customer, **asked) == [5, 3]
    with pytest.raises(stripe.InvalidRequestError, match="aligned with hour"):
        summed(shop, made.id, customer, **{**asked, "end_time": hour + MINUTE})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"event_name": "unknown"}, 'No active meter found for event name "unknown"'),
        ({"payload": {"value": "1"}}, "must contain the customer"),
        ({"payload": {"stripe_customer_id": "cus_gone", "value": "1"}}, "No such customer"),
        ({"timestamp": -36 * 86400}, "within the past 35 calendar days"),
        ({"timestamp": 600}, "5 minutes in the future"),
    ],
)
def test_an_invalid_meter_event_is_rejected(
    shop: Shop, customer: str, given: dict[str, Any], message: str
) -> None:
    meter(shop)
    if "timestamp" in given:
        given = {"timestamp": now_of(shop) + given["timestamp"]}
    with pytest.raises(stripe.InvalidRequestError, match=message):
        report(shop, customer, **given)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1.5", "whole number"),
        ("", "whole number"),
        ("many", "whole number"),
        ("1" * 16, "at most 15 digits"),
    ],
)
def test_fact_47_a_value_must_be_a_whole_number(
    shop: Shop, customer: str, value: str, message: str
) -> None:
    meter(shop)
    with pytest.raises(stripe.InvalidRequestError, match=message):
        report(shop, customer, value)


def test_usage_is_billed_at_the_renewal(shop: Shop, customer: str) -> None:
    made = meter(shop)
    price = metered_price(shop, made.id)
    shop.v1.payment_methods.list({"customer": customer})
    method = shop.get("/v1/payment_methods", customer=customer)["data"][0]["id"]
    subscription = shop.v1.subscriptions.create(
        {
            "customer": customer,
            "items": [{"price": price.id}, {"price": shop.price(interval="month")}],
            "default_payment_method": method,
        }
    )
    report(shop, customer, "7")
    shop.sandbox.control("renew", subscription=subscription.id)
    newest, first = shop.get("/v1/invoices", subscription=subscription.id)["data"]
    assert [line["amount"] for line in first["lines"]["data"]] == [0, 1500]
    assert [line["amount"] for line in newest["lines"]["data"]] == [140, 1500]
    assert (newest["amount_paid"], newest["lines"]["data"][0]["quantity"]) == (1640, 7)
    shop.sandbox.control("renew", subscription=subscription.id)
    assert shop.get("/v1/invoices", subscription=subscription.id)["data"][0]["total"] == 1500


def test_fact_49_usage_that_arrives_while_the_invoice_is_a_draft_is_on_it(shop: Shop) -> None:
    made = meter(shop)
    start = now_of(shop)
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": start})
    customer = shop.v1.customers.create({"test_clock": clock.id, "payment_method": "pm_card_visa"})
    method = shop.get("/v1/payment_methods", customer=customer.id)["data"][0]["id"]
    subscription = shop.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": metered_price(shop, made.id).id}],
            "default_payment_method": method,
        }
    )
    report(shop, customer.id, "5", timestamp=start + 60)
    end = subscription["items"].data[0].current_period_end
    shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": end + 60})
    shop.settle()
    draft = shop.get("/v1/invoices", subscription=subscription.id)["data"][0]
    assert (draft["status"], draft["total"]) == ("draft", 100)
    report(shop, customer.id, "3", timestamp=end - 1)
    report(shop, customer.id, "1", timestamp=end)
    shop.v1.test_helpers.test_clocks.advance(clock.id, {"frozen_time": end + 7200})
    shop.settle()
    paid = shop.get(f"/v1/invoices/{draft['id']}")
    assert (paid["status"], paid["total"], paid["amount_paid"]) == ("paid", 160, 160)


TIERS = [
    {"up_to": 10, "unit_amount": 100, "flat_amount": 500},
    {"up_to": 20, "unit_amount_decimal": "50.5"},
    {"up_to": "inf", "unit_amount": 10},
]


@pytest.mark.parametrize(
    ("mode", "units", "expected"),
    [
        ("graduated", 0, 0),
        ("graduated", 10, 1500),
        ("graduated", 13, 1652),
        ("graduated", 25, 2055),
        ("volume", 10, 1500),
        ("volume", 13, 657),
        ("volume", 25, 250),
    ],
)
def test_tiers_price_usage(shop: Shop, customer: str, mode: str, units: int, expected: int) -> None:
    made = meter(shop)
    price = metered_price(shop, made.id, billing_scheme="tiered", tiers_mode=mode, tiers=TIERS)
    assert "tiers" not in price.to_dict()
    expanded = shop.v1.prices.retrieve(price.id, {"expand": ["tiers"]})
    assert [tier.up_to for tier in expanded.tiers] == [10, 20, None]
    subscription = shop.v1.subscriptions.create(
        {"customer": customer, "items": [{"price": price.id}]}
    )
    if units:
        report(shop, customer, str(units))
    shop.sandbox.control("renew", subscription=subscription.id)
    newest = shop.get("/v1/invoices", subscription=subscription.id)["data"][0]
    assert newest["total"] == expected


def test_usage_is_priced_in_packages(shop: Shop, customer: str) -> None:
    price = metered_price(
        shop, meter(shop).id, transform_quantity={"divide_by": 1000, "round": "up"}
    )
    subscription = shop.v1.subscriptions.create(
        {"customer": customer, "items": [{"price": price.id}]}
    )
    report(shop, customer, "1001")
    shop.sandbox.control("renew", subscription=subscription.id)
    assert shop.get("/v1/invoices", subscription=subscription.id)["data"][0]["total"] == 40


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"billing_scheme": "tiered"}, "You must specify `tiers`"),
        ({"billing_scheme": "tiered", "tiers_mode": "volume", "tiers": TIERS[:2]}, "must be `inf`"),
        ({"recurring": {"interval": "month", "meter": "mtr_no"}}, "No such billing.meter"),
        ({"recurring": {"interval": "month", "usage_type": "metered"}}, "must be backed by meters"),
    ],
)
def test_an_invalid_price_is_rejected(shop: Shop, given: dict[str, Any], message: str) -> None:
    product = shop.v1.products.create({"name": "Calls"}).id
    with pytest.raises(stripe.InvalidRequestError, match=message):
        shop.v1.prices.create(
            {"currency": "usd", "product": product, "unit_amount": 1, **given}
            if "billing_scheme" not in given
            else {"currency": "usd", "product": product, **given}
        )


def test_a_price_and_its_meter_belong_together(shop: Shop) -> None:
    made = meter(shop)
    monthly = {"interval": "month", "meter": made.id}
    with pytest.raises(stripe.InvalidRequestError, match="`usage_type` set to `metered`"):
        metered_price(shop, made.id, recurring=monthly)
    shop.v1.billing.meters.deactivate(made.id)
    with pytest.raises(stripe.InvalidRequestError, match="inactive") as refused:
        metered_price(shop, made.id)
    assert refused.value.param == "recurring[meter]"


def test_a_meter_event_can_be_lost_on_the_way_back(shop: Shop, customer: str) -> None:
    """A fault after the effect: the retry learns that the event exists."""
    made = meter(shop)
    path = "/v1/billing/meter_events"
    shop.sandbox.control("fault", path_prefix=path, cut=True, after_effect=True)
    with pytest.raises(stripe.APIConnectionError):
        report(shop, customer, "3", identifier="lost")
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        report(shop, customer, "3", identifier="lost")
    assert summed(shop, made.id, customer) == [3]


def test_restricted_keys_may_be_denied_meter_events(shop: Shop) -> None:
    key = shop.key.replace("sk_", "rk_")
    shop.sandbox.control("restrict_key", key=key, access={"billing/meter_events": "none"})
    limited = stripe.StripeClient(key, base_addresses={"api": shop.sandbox.url})
    with pytest.raises((stripe.PermissionError, Refused)):
        limited.v1.billing.meter_events.create(
            {"event_name": "api_calls", "payload": {"value": "1"}}
        )
