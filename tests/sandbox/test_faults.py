"""Faults: closed connections, slow and limited responses, restricted keys, unknown fields."""

from __future__ import annotations

import time
from collections.abc import Iterator
from uuid import uuid4

import httpx
import pytest
import stripe

from sandbox.shop import Receiver, Refused, Sandbox, Shop


def test_a_connection_closed_before_the_effect_has_no_effect(shop: Shop) -> None:
    shop.sandbox.control("fault", cut=True, path_prefix="/v1/products")
    with pytest.raises(httpx.TransportError):
        shop.raw("POST", "/v1/products", name="Tea")
    assert shop.v1.products.list().data == []


def test_after_a_lost_response_the_same_key_gets_it(shop: Shop) -> None:
    shop.sandbox.control("fault", cut=True, after_effect=True, path_prefix="/v1/products")
    headers = {"Idempotency-Key": str(uuid4())}
    with pytest.raises(httpx.TransportError):
        shop.raw("POST", "/v1/products", headers, name="Tea")
    again = shop.raw("POST", "/v1/products", headers, name="Tea")
    assert again.headers["idempotent-replayed"] == "true"
    assert [product.id for product in shop.v1.products.list().data] == [again.json()["id"]]


def test_fact_39_the_sdk_retries_a_closed_connection(shop: Shop) -> None:
    client = stripe.StripeClient(
        shop.key, base_addresses={"api": shop.sandbox.url}, max_network_retries=1
    )
    shop.sandbox.control("fault", cut=True, after_effect=True, path_prefix="/v1/products")
    product = client.v1.products.create({"name": "Tea"})
    assert [found.id for found in shop.v1.products.list().data] == [product.id]


def test_a_slow_response_is_the_real_one(shop: Shop) -> None:
    shop.sandbox.control("fault", seconds=0.2, path_prefix="/v1/products")
    began = time.monotonic()
    assert shop.raw("GET", "/v1/products").status_code == 200
    assert time.monotonic() - began >= 0.2


@pytest.mark.parametrize("reason", ["global-rate", "endpoint-concurrency", None])
def test_fact_41_a_rate_limit_has_its_reason_and_a_lock_timeout_none(
    shop: Shop, reason: str | None
) -> None:
    shop.sandbox.control("fault", status=429, reason=reason, path_prefix="/v1/products")
    answer = shop.raw("GET", "/v1/products")
    assert answer.headers.get("stripe-rate-limited-reason") == reason
    assert answer.json()["error"]["code"] == ("rate_limit" if reason else "lock_timeout")
    assert "retry-after" not in answer.headers
    shop.sandbox.control("fault", status=429, reason=reason, path_prefix="/v1/products")
    with pytest.raises(stripe.RateLimitError):
        shop.v1.products.list()


def test_a_conflict_should_be_retried(shop: Shop) -> None:
    shop.sandbox.control("fault", status=409, path_prefix="/v1/products")
    answer = shop.raw("POST", "/v1/products", name="Tea")
    assert answer.json()["error"]["code"] == "idempotency_key_in_use"
    assert answer.headers["stripe-should-retry"] == "true"


@pytest.mark.parametrize(
    "given",
    [
        {"status": 200},
        {"status": 500, "reason": "global-rate"},
        {"status": 429, "reason": "tired"},
        {"status": 500, "times": 0},
        {"seconds": -1},
    ],
)
def test_an_invalid_fault_is_rejected(sandbox: Sandbox, given: dict[str, object]) -> None:
    with pytest.raises(Refused) as caught:
        sandbox.control("fault", **given)
    assert caught.value.status == 400


def test_a_revoked_key_is_rejected_and_its_sibling_still_works(shop: Shop) -> None:
    shop.sandbox.control("revoke_key", key=f"{shop.key}_old")
    old = Shop(shop.sandbox, f"{shop.key}_old")
    with pytest.raises(stripe.AuthenticationError, match="Invalid API Key"):
        old.v1.products.list()
    assert shop.v1.products.list().data == []


def test_a_restricted_key_has_only_its_permissions(shop: Shop) -> None:
    key = shop.key.replace("sk_", "rk_")
    restricted = Shop(shop.sandbox, key)
    assert restricted.v1.customers.create({"name": "Ada"}).name == "Ada"
    access = {"customers": "none", "products": "read", "checkout/sessions": "read"}
    shop.sandbox.control("restrict_key", key=key, access=access)
    with pytest.raises(stripe.PermissionError, match="required permissions"):
        restricted.v1.customers.list()
    assert restricted.v1.products.list().data == []
    with pytest.raises(stripe.PermissionError, match="write"):
        restricted.v1.products.create({"name": "Tea"})
    assert restricted.raw("POST", "/v1/checkout/sessions").status_code == 403
    assert restricted.v1.prices.list().data == []
    assert shop.v1.customers.list().data[0].name == "Ada"


def test_only_restricted_keys_can_be_restricted(shop: Shop) -> None:
    for key, access in ((shop.key, {"customers": "none"}), ("rk_test_a", {"customers": "some"})):
        with pytest.raises(Refused):
            shop.sandbox.control("restrict_key", key=key, access=access)


@pytest.fixture
def extra_keys(sandbox: Sandbox) -> Iterator[None]:
    sandbox.control("extra_keys", on=True)
    yield
    sandbox.control("extra_keys", on=False)


@pytest.mark.usefixtures("extra_keys")
def test_objects_can_have_fields_that_no_type_lists(shop: Shop, receiver: Receiver) -> None:
    given = {"url": receiver.url, "enabled_events": ["charge.succeeded"]}
    shop.v1.webhook_endpoints.create(given)
    session = shop.paid()
    asked = shop.get(f"/v1/payment_intents/{session['payment_intent']}")
    assert asked["sandbox_unknown_flag"] is True
    event = receiver.wait_for(1)[0].event
    assert event["sandbox_unknown"] == {"nested": [1, None]}
    assert {"sandbox_unknown", "destination", "order"} <= event["data"]["object"].keys()
    assert shop.v1.payment_intents.retrieve(asked["id"]).status == "succeeded"


def test_the_next_payment_has_the_outcome_that_was_set(shop: Shop) -> None:
    decided = {"key": shop.key, "card": "pm_card_chargeDeclinedInsufficientFunds"}
    shop.sandbox.control("outcome", **decided)
    session = shop.session()
    with pytest.raises(Refused) as caught:
        shop.pay(session.id)
    assert caught.value.error["decline_code"] == "insufficient_funds"
    assert shop.pay(session.id)["payment_status"] == "paid"


def test_an_outcome_can_be_for_one_customer_and_several_payments(shop: Shop) -> None:
    ada = shop.v1.customers.create({"email": "ada@example.com"}).id
    decided = {"card": "pm_card_chargeDeclined", "customer": ada, "times": 2}
    shop.sandbox.control("outcome", key=shop.key, **decided)
    assert shop.paid()["payment_status"] == "paid"
    session = shop.session(customer=ada)
    for _ in range(2):
        with pytest.raises(Refused):
            shop.pay(session.id)
    assert shop.pay(session.id)["payment_status"] == "paid"


def test_an_outcome_needs_a_test_card(shop: Shop) -> None:
    with pytest.raises(Refused, match="No such test card"):
        shop.sandbox.control("outcome", key=shop.key, card="pm_card_unheard_of")
