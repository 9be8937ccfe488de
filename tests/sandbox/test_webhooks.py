"""Webhook endpoints, signed deliveries and the list of events."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest
import stripe

from sandbox.shop import Delivery, Receiver, Shop, wait_until


def connect(shop: Shop, receiver: Receiver, *types: str) -> stripe.WebhookEndpoint:
    given = {"url": receiver.url, "enabled_events": list(types or ("*",))}
    return shop.v1.webhook_endpoints.create(given)


def signed(delivery: Delivery, secret: str) -> bool:
    body = delivery.body.decode()
    return bool(stripe.WebhookSignature.verify_header(body, delivery.signature, secret, 300))


def test_events_arrive_signed_in_the_order_in_which_they_happened(
    shop: Shop, receiver: Receiver
) -> None:
    endpoint = connect(shop, receiver)
    assert endpoint.secret is not None
    shop.paid(customer_creation="always")
    deliveries = receiver.wait_for(7)
    assert [delivery.event["type"] for delivery in deliveries][:7] == shop.types()[:7]
    assert all(signed(delivery, endpoint.secret) for delivery in deliveries)
    built = stripe.Webhook.construct_event(
        deliveries[-1].body, deliveries[-1].signature, endpoint.secret
    )
    assert built.type == "checkout.session.completed"
    assert ",v0=" in deliveries[0].signature


def test_another_secret_does_not_verify(shop: Shop, receiver: Receiver) -> None:
    connect(shop, receiver)
    shop.v1.products.create({"name": "Tea"})
    delivery = receiver.wait_for(1)[0]
    with pytest.raises(stripe.SignatureVerificationError):
        signed(delivery, "whsec_wrong")


def test_an_endpoint_gets_only_its_enabled_events(shop: Shop, receiver: Receiver) -> None:
    connect(shop, receiver, "price.created")
    shop.price()
    shop.price()
    received = [delivery.event["type"] for delivery in receiver.wait_for(2)]
    assert received == ["price.created", "price.created"]


def test_fact_34_a_failed_delivery_is_retried_with_a_new_signature(
    shop: Shop, receiver: Receiver
) -> None:
    receiver.answers = [500, 302]
    endpoint = connect(shop, receiver)
    shop.v1.products.create({"name": "Tea"})
    # The receiver notices a failed attempt a moment before the sandbox schedules the next one.
    wait_until(lambda: shop.stats()["deliveries_failed"] == 1)
    shop.sandbox.control("advance", seconds=6)
    wait_until(lambda: shop.stats()["deliveries_failed"] == 2)
    assert shop.get("/v1/events", delivery_success="false")["data"][0]["pending_webhooks"] == 1
    shop.sandbox.control("advance", seconds=601)
    first, second, third = receiver.wait_for(3)
    assert first.event["id"] == second.event["id"] == third.event["id"]
    assert endpoint.secret is not None
    assert signed(third, endpoint.secret)
    # The receiver has the event a moment before the sandbox records the delivery.
    wait_until(lambda: not shop.get("/v1/events", delivery_success="false")["data"])


def test_a_failing_event_does_not_hold_up_others(shop: Shop, receiver: Receiver) -> None:
    receiver.answers = [500]
    connect(shop, receiver, "product.created")
    names = [shop.v1.products.create({"name": f"{i}"}).id for i in range(3)]
    received = [delivery.event["data"]["object"]["id"] for delivery in receiver.wait_for(3)]
    assert received == names


def test_an_endpoint_that_is_down_gets_its_events_when_it_is_back(shop: Shop) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/hook"
    shop.v1.webhook_endpoints.create({"url": url, "enabled_events": ["*"]})
    shop.v1.products.create({"name": "Tea"})
    assert shop.events()[0]["pending_webhooks"] == 1


@pytest.mark.parametrize("way", ["disabled", "deleted"])
def test_fact_35_a_deleted_endpoint_gets_nothing_more(
    shop: Shop, receiver: Receiver, way: str
) -> None:
    gone = connect(shop, receiver, "product.created")
    connect(shop, receiver, "customer.created")
    if way == "disabled":
        shop.v1.webhook_endpoints.update(gone.id, {"disabled": True})
    else:
        shop.v1.webhook_endpoints.delete(gone.id)
    shop.v1.products.create({"name": "Tea"})
    shop.v1.customers.create({"name": "Ada"})
    assert [d.event["type"] for d in receiver.wait_for(1)] == ["customer.created"]


def test_held_deliveries_are_sent_when_turned_on_again(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    connect(shop, receiver)
    set_delivery(mode="off")
    shop.v1.products.create({"name": "Tea"})
    assert shop.events()[0]["pending_webhooks"] == 1
    shop.sandbox.control("settle")
    assert shop.stats()["deliveries_waiting"] == 1
    assert receiver.deliveries == []
    set_delivery(mode="on")
    receiver.wait_for(1)


def test_dropped_deliveries_are_listed_as_undelivered(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    connect(shop, receiver)
    set_delivery(mode="drop")
    shop.v1.products.create({"name": "Lost"})
    wait_until(lambda: shop.stats()["deliveries_waiting"] == 0)
    set_delivery(mode="on")
    shop.v1.customers.create({"name": "Ada"})
    assert [d.event["type"] for d in receiver.wait_for(1)] == ["customer.created"]
    pending = shop.get("/v1/events", delivery_success="false")["data"]
    assert [event["type"] for event in pending][-1] == "product.created"


def test_deliveries_can_be_concurrent(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    receiver.together = threading.Barrier(4)
    connect(shop, receiver, "customer.created")
    set_delivery(concurrency=4)
    for name in "abcd":
        shop.v1.customers.create({"name": name})
    receiver.wait_for(4)


def test_deliveries_can_be_unordered(
    shop: Shop, receiver: Receiver, set_delivery: Callable[..., None]
) -> None:
    connect(shop, receiver, "*")
    set_delivery(order="shuffled")
    for _ in range(4):
        shop.paid("subscription")
    shop.sandbox.control("settle")
    happened = [event["id"] for event in shop.events()]
    received = [d.event["id"] for d in receiver.wait_for(len(happened))]
    assert sorted(received) == sorted(happened)
    assert received != happened


def test_fact_36_the_secret_is_returned_once(shop: Shop, receiver: Receiver) -> None:
    endpoint = connect(shop, receiver)
    assert str(endpoint.secret).startswith("whsec_")
    assert "secret" not in shop.get(f"/v1/webhook_endpoints/{endpoint.id}")
    assert "secret" not in shop.get("/v1/webhook_endpoints")["data"][0]


def test_an_account_can_have_sixteen_endpoints(shop: Shop, receiver: Receiver) -> None:
    for _ in range(16):
        connect(shop, receiver)
    with pytest.raises(stripe.InvalidRequestError, match="maximum of 16"):
        connect(shop, receiver)


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"url": "http://a.b/c"}, "enabled_events"),
        ({"url": "http://a.b/c", "enabled_events": ""}, "enabled_events"),
        ({"url": "ftp://a.b/c", "enabled_events[]": "*"}, "url"),
        ({"url": "http://a.b/c", "enabled_events[]": "Bad"}, "enabled_events[0]"),
        (
            {"url": "http://a.b/c", "enabled_events[]": "*", "api_version": "1999-01-01"},
            "api_version",
        ),
    ],
)
def test_an_invalid_endpoint_is_rejected(shop: Shop, form: dict[str, str], param: str) -> None:
    answer = shop.raw("POST", "/v1/webhook_endpoints", **form)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_fact_33_events_are_listed_by_type_for_thirty_days(shop: Shop) -> None:
    shop.paid()
    found = shop.v1.events.list({"type": "payment_intent.*"}).data
    assert [event.type for event in found] == [
        "payment_intent.created",
        "payment_intent.succeeded",
    ]
    found = shop.v1.events.list({"types": ["charge.succeeded", "price.created"]}).data
    assert [event.type for event in found] == ["charge.succeeded", "price.created"]
    answer = shop.raw("GET", "/v1/events", **{"type": "a", "types[]": "b"})
    assert answer.status_code == 400
    name = found[0].id
    shop.sandbox.control("advance", seconds=31 * 86400)
    assert shop.types() == []
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.events.retrieve(name)


def test_fact_32_an_event_never_changes(shop: Shop) -> None:
    product = shop.v1.products.create({"name": "Tea"})
    before = shop.events()[0]
    shop.v1.products.update(product.id, {"name": "Coffee", "metadata": {"a": "b"}})
    assert shop.events()[0] == before
    assert before["data"]["object"]["name"] == "Tea"
