"""The delivery policy, rolled secrets and older API versions."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import stripe

from billhook_sandbox.delivery_policy import DeliveryPolicy, plan_delivery
from sandbox.conftest import Launch
from sandbox.shop import Delivery, Receiver, Sandbox, Shop

NAMES = [f"{number}" for number in range(8)]


def connect(shop: Shop, receiver: Receiver, **given: object) -> stripe.WebhookEndpoint:
    wanted = {"url": receiver.url, "enabled_events": ["customer.created"], **given}
    return shop.v1.webhook_endpoints.create(wanted)


def names(deliveries: list[Delivery]) -> list[str]:
    return [delivery.event["data"]["object"]["name"] for delivery in deliveries]


def eight_customers(shop: Shop) -> None:
    for name in NAMES:
        shop.v1.customers.create({"name": name})


def settled(shop: Shop, receiver: Receiver) -> list[str]:
    """The deliveries, once all that are due are done."""
    shop.sandbox.control("settle")
    return names(receiver.deliveries)


def test_fact_12_a_shuffled_order_is_determined_by_its_seed(
    sandbox: Sandbox, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    orders = []
    for seed in (7, 7, 8):
        shop = sandbox.shop()
        connect(shop, receiver)
        set_delivery(order="shuffled", seed=seed)
        eight_customers(shop)
        orders.append(settled(shop, receiver))
        receiver.deliveries.clear()
    assert orders[0] == orders[1]
    assert len({tuple(order) for order in [*orders, NAMES]}) == 3
    assert all(sorted(order) == NAMES for order in orders)


def test_a_reversed_order_delivers_the_newest_first(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    connect(shop, receiver)
    set_delivery(order="reversed")
    eight_customers(shop)
    assert settled(shop, receiver) == NAMES[::-1]


def test_duplicates_have_the_same_id_and_their_own_signature(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    endpoint = connect(shop, receiver)
    assert endpoint.secret is not None
    set_delivery(duplicate=1)
    eight_customers(shop)
    assert settled(shop, receiver) == [name for name in NAMES for _ in range(2)]
    first, second = receiver.deliveries[:2]
    assert first.event["id"] == second.event["id"]
    assert stripe.WebhookSignature.verify_header(
        second.body.decode(), second.signature, endpoint.secret
    )
    assert shop.events()[0]["pending_webhooks"] == 0


def test_lost_deliveries_are_listed_as_undelivered(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    connect(shop, receiver)
    set_delivery(drop=0.5, seed=3)
    eight_customers(shop)
    came = settled(shop, receiver)
    told = [
        not plan_delivery(DeliveryPolicy(drop=0.5, seed=3), number + 1).lost for number in range(8)
    ]
    assert came == [name for name, kept in zip(NAMES, told, strict=True) if kept]
    assert 0 < len(came) < 8
    lost = shop.get("/v1/events", delivery_success="false")["data"]
    assert sorted(event["data"]["object"]["name"] for event in lost) == sorted(
        set(NAMES) - set(came)
    )


def test_a_delay_lets_later_events_overtake_earlier_ones(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    connect(shop, receiver)
    set_delivery(delay=600, seed=1)
    eight_customers(shop)
    assert receiver.deliveries == []
    shop.sandbox.control("advance", seconds=700)
    came = settled(shop, receiver)
    assert sorted(came) == NAMES
    assert came != NAMES


def test_a_response_that_takes_too_long_counts_as_failed(
    shop: Shop, set_delivery: Callable[..., None]
) -> None:
    set_delivery(timeout=0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/hook"
        given = {"url": url, "enabled_events": ["customer.created"]}
        shop.v1.webhook_endpoints.create(given)
        shop.v1.customers.create({"name": "Ada"})
        shop.sandbox.control("settle", seconds=0)
    assert shop.stats()["deliveries_failed"] == 1


def test_a_rolled_secret_is_valid_until_it_expires(shop: Shop, receiver: Receiver) -> None:
    endpoint = connect(shop, receiver)
    old = str(endpoint.secret)
    new = shop.sandbox.control("roll_secret", endpoint=endpoint.id, overlap_seconds=3600)["secret"]
    assert new != old
    shop.v1.customers.create({"name": "during"})
    shop.sandbox.control("advance", seconds=3601)
    shop.v1.customers.create({"name": "after"})
    during, after = receiver.wait_for(2)
    assert during.signature.count("v1=") == 2
    for secret in (old, new):
        assert stripe.WebhookSignature.verify_header(during.body.decode(), during.signature, secret)
    assert after.signature.count("v1=") == 1
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.WebhookSignature.verify_header(after.body.decode(), after.signature, old)


def test_a_rolled_secret_survives_a_restart(
    tmp_path_factory: pytest.TempPathFactory, receiver: Receiver, launch: Launch
) -> None:
    data = str(tmp_path_factory.mktemp("rolled") / "sandbox.sqlite")
    process, first = launch("--data", data)
    shop = Shop(first, "sk_test_shop")
    endpoint = connect(shop, receiver)
    new = first.control("roll_secret", endpoint=endpoint.id)["secret"]
    process.kill()
    process.wait(10)
    _, second = launch("--data", data)
    Shop(second, "sk_test_shop").v1.customers.create({"name": "Ada"})
    delivery = receiver.wait_for(1)[0]
    for secret in (new, str(endpoint.secret)):
        assert stripe.WebhookSignature.verify_header(
            delivery.body.decode(), delivery.signature, secret
        )


def test_an_endpoint_gets_events_in_its_own_version(shop: Shop, receiver: Receiver) -> None:
    types = ["customer.subscription.created", "invoice.paid", "checkout.session.completed"]
    connect(shop, receiver, enabled_events=types, api_version="2024-06-20")
    connect(shop, receiver, enabled_events=types)
    paid = shop.paid("subscription")
    by_version = {
        (delivery.event["api_version"], delivery.event["type"]): delivery.event["data"]["object"]
        for delivery in receiver.wait_for(6)
    }
    assert len(by_version) == 6
    old, new = by_version["2024-06-20", types[0]], by_version[str(stripe.api_version), types[0]]
    assert "current_period_end" not in new
    assert old["current_period_end"] == old["items"]["data"][0]["current_period_end"]
    invoice = by_version["2024-06-20", types[1]]
    assert (invoice["paid"], invoice["subscription"]) == (True, paid["subscription"])
    assert invoice["payment_intent"].startswith("pi_")
    assert invoice["charge"].startswith("ch_")
    assert "parent" not in invoice
    assert "allowed_payment_method_types" not in by_version["2024-06-20", types[2]]
    listed = shop.events("customer.subscription.created")[0]
    assert listed["api_version"] == stripe.api_version


def test_an_account_with_an_older_version_gets_older_events_and_responses(
    shop: Shop, receiver: Receiver
) -> None:
    shop.sandbox.control("api_version", key=shop.key, version="2024-06-20")
    connect(shop, receiver, enabled_events=["invoice.paid"], api_version=stripe.api_version)
    price = shop.price(interval="month")
    form = {
        "mode": "subscription",
        "success_url": "https://shop.example",
        "line_items[0][price]": price,
        "line_items[0][quantity]": "1",
        "payment_method_types[0]": "card",
    }
    session = shop.raw("POST", "/v1/checkout/sessions", **form).json()
    assert session["payment_method_types"] == ["card"]
    assert "allowed_payment_method_types" not in session
    name = shop.pay(session["id"])["subscription"]
    event = shop.events("invoice.paid")[0]
    assert event["api_version"] == "2024-06-20"
    assert event["data"]["object"]["subscription"] == name
    assert "current_period_end" in shop.get(f"/v1/subscriptions/{name}")
    now = {"Stripe-Version": str(stripe.api_version)}
    asked = shop.raw("GET", f"/v1/subscriptions/{name}", now).json()
    assert "current_period_end" not in asked
    delivered = receiver.wait_for(1)[0].event
    assert delivered["api_version"] == stripe.api_version
    assert delivered["data"]["object"]["parent"]["subscription_details"]["subscription"] == name


@pytest.mark.parametrize("version", ["2026-10-27", "2019-02-11"])
def test_an_unknown_or_unsupported_version_is_rejected(shop: Shop, version: str) -> None:
    answer = shop.raw("GET", "/v1/products", {"Stripe-Version": version})
    assert answer.status_code == 400
    assert "Invalid Stripe API version" in answer.json()["error"]["message"]
