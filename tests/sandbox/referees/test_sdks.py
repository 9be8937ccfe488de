"""Both official SDKs in their normal use: Node's in `sdk.test.mjs`, Python's here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
import stripe

from sandbox.referees.tools import HERE
from sandbox.shop import Receiver, Shop


@pytest.mark.node
@pytest.mark.usefixtures("node")
def test_the_node_sdk(shop: Shop) -> None:
    given = json.dumps({"url": shop.sandbox.url, "key": shop.key})
    run = subprocess.run(
        ["node", "--test", "--test-reporter=tap", "sdk.test.mjs"],
        cwd=HERE,
        env=os.environ | {"SANDBOX": given},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "# pass 8" in run.stdout, run.stdout


def test_the_python_sdk_pages_expands_and_keeps_decimals(shop: Shop) -> None:
    for number in range(12):
        shop.v1.customers.create({"name": str(number)})
    found = [c.name for c in shop.v1.customers.list({"limit": 5}).auto_paging_iter()]
    assert found == [str(number) for number in reversed(range(12))]
    price = shop.v1.prices.create(
        {
            "currency": "usd",
            "product_data": {"name": "Tea"},
            "unit_amount_decimal": Decimal("1250.5"),
        }
    )
    assert price.unit_amount_decimal == Decimal("1250.5")
    assert shop.v1.prices.retrieve(price.id, {"expand": ["product"]}).product.name == "Tea"


def test_the_python_sdk_works_asynchronously(shop: Shop) -> None:
    async def use() -> list[str]:
        client: Any = stripe.StripeClient(
            shop.key,
            base_addresses={"api": shop.sandbox.url},
            http_client=stripe.HTTPXClient(),
        )
        made = [client.v1.products.create_async({"name": f"{i}"}) for i in range(10)]
        await asyncio.gather(*made)
        listed = await client.v1.products.list_async({"limit": 3})
        return [product.name async for product in listed.auto_paging_iter()]

    assert sorted(asyncio.run(use())) == [str(number) for number in range(10)]


def test_the_python_sdk_replays_and_distinguishes_errors(shop: Shop) -> None:
    options = {"idempotency_key": str(uuid4())}
    first = shop.v1.customers.create({"name": "Ada"}, options)
    assert shop.v1.customers.create({"name": "Ada"}, options).id == first.id
    with pytest.raises(stripe.IdempotencyError):
        shop.v1.customers.create({"name": "Bob"}, options)
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.customers.retrieve("cus_gone")
    assert (caught.value.code, caught.value.http_status) == ("resource_missing", 404)
    assert str(caught.value.request_id).startswith("req_")


def test_the_python_sdk_reads_its_webhooks(shop: Shop, receiver: Receiver) -> None:
    given = {"url": receiver.url, "enabled_events": ["checkout.session.completed"]}
    secret = shop.v1.webhook_endpoints.create(given).secret
    session = shop.paid()
    delivery = receiver.wait_for(1)[0]
    event = shop.client.construct_event(delivery.body, delivery.signature, str(secret))
    assert event.type == "checkout.session.completed"
    assert event.data.object["id"] == session["id"]
