"""The process: options, persistence, faults and controls."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe

from billhook_sandbox import Options, create_sandbox
from sandbox.conftest import Launch
from sandbox.shop import Receiver, Refused, Sandbox, Shop, web


def test_what_a_response_reported_survives_kill_9(
    tmp_path: Path, receiver: Receiver, launch: Launch
) -> None:
    data = str(tmp_path / "sandbox.sqlite")
    process, first = launch("--data", data)
    shop = Shop(first, "sk_test_shop")
    first.control("advance", seconds=5000)
    first.control("delivery", mode="off")
    shop.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    paid = shop.paid("subscription")
    headers = {"Idempotency-Key": str(uuid4())}
    answer = shop.raw("POST", "/v1/customers", headers, name="Ada")
    before = shop.get("/v1/events", limit="100")["data"]
    now = web.get(f"{first.url}/_sandbox/health").json()["now"]
    process.kill()
    process.wait(10)

    _, second = launch("--data", data)
    again = Shop(second, "sk_test_shop")
    assert again.get(f"/v1/subscriptions/{paid['subscription']}")["status"] == "active"
    assert again.raw("POST", "/v1/customers", headers, name="Ada").content == answer.content
    assert web.get(f"{second.url}/_sandbox/health").json()["now"] >= now
    received = [delivery.event["id"] for delivery in receiver.wait_for(len(before))]
    assert received[: len(before)] == [event["id"] for event in before[::-1]]
    again.settle()
    assert "invoice_payment.paid" in again.types(), "what was still to come comes"
    assert [event["id"] for event in again.events()][: len(before)] == received[: len(before)]


def test_live_keys_are_rejected_unless_allowed(launch: Launch) -> None:
    _, found = launch()
    with pytest.raises(stripe.AuthenticationError, match="LIVE key"):
        Shop(found, "sk_live_shop").v1.accounts.retrieve_current()


def test_remote_connections_need_allow_remote() -> None:
    command = [sys.executable, "-m", "billhook_sandbox", "--port", "0", "--host", "0.0.0.0"]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 1
    assert "--allow-remote" in refused.stderr
    assert refused.stdout == ""


def status(
    path: str,
    headers: dict[str, str] | None = None,
    client: str = "127.0.0.1",
    url: str = "http://127.0.0.1:12111",
    **options: Any,
) -> int:
    """How a sandbox with these options answers a POST."""

    async def ask() -> int:
        transport = httpx.ASGITransport(create_sandbox(Options(**options)), client=(client, 1))
        async with httpx.AsyncClient(transport=transport, base_url=url) as http:
            return (await http.post(path, content=b"", headers=headers)).status_code

    return asyncio.run(ask())


def test_controls_only_accept_requests_from_this_machine() -> None:
    assert status("/_sandbox/reset") == 200
    assert status("/_sandbox/reset", client="192.0.2.7", allow_remote=True) == 403


PATHS = ["/_sandbox/reset", "/v1/webhook_endpoints", "/c/pay/cs_test_1", "/_pages/sandbox.css"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "headers",
    [
        # An attacker's name that resolves to 127.0.0.1: its page has the same origin.
        {"host": "evil.test:12111", "origin": "http://evil.test:12111"},
        {"host": "evil.test:12111"},
        {"host": "localhost.evil.test"},
        {"host": "[bad"},
        {"origin": "https://evil.test"},
        {"origin": "http://[bad"},
        {"origin": "null"},
    ],
    ids=str,
)
def test_no_other_website_in_a_browser_on_this_machine_uses_the_sandbox(
    path: str, headers: dict[str, str]
) -> None:
    assert status(path, headers) == 403


@pytest.mark.parametrize(
    ("headers", "options"),
    [
        ({"host": "localhost:12111", "origin": "http://localhost:12111"}, {}),
        ({"host": "[::1]:12111", "origin": "http://127.0.0.1:3000"}, {}),
        ({"host": "127.0.0.1", "origin": "http://localhost:3000"}, {}),
        ({"host": "sandbox:12111", "origin": "http://sandbox:12111"}, {"allow_remote": True}),
        ({"host": "10.0.0.7", "origin": "https://pay.test"}, {"public_url": "https://pay.test/"}),
    ],
    ids=str,
)
def test_the_sandboxs_own_pages_and_this_machine_may_use_it(
    headers: dict[str, str], options: dict[str, Any]
) -> None:
    assert status("/_sandbox/reset", headers, **options) == 200
    assert status("/_sandbox/reset", headers | {"origin": "https://evil.test"}, **options) == 403


def test_a_port_in_use_is_reported_in_one_line(sandbox: Sandbox) -> None:
    port = sandbox.url.rpartition(":")[2]
    command = [sys.executable, "-m", "billhook_sandbox", "--port", port]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1


def test_a_fault_before_the_effect_has_no_effect(shop: Shop) -> None:
    fault = {"method": "POST", "path_prefix": "/v1/products", "status": 503}
    shop.sandbox.control("fault", **fault)
    with pytest.raises(stripe.APIError):
        shop.v1.products.create({"name": "Tea"})
    assert shop.v1.products.list().data == []
    shop.v1.products.create({"name": "Tea"})


def test_a_fault_after_the_effect_loses_only_the_response(shop: Shop) -> None:
    fault = {"method": "POST", "path_prefix": "/v1/products", "status": 500, "after_effect": True}
    shop.sandbox.control("fault", **fault)
    headers = {"Idempotency-Key": str(uuid4())}
    assert shop.raw("POST", "/v1/products", headers, name="Tea").status_code == 500
    retried = shop.raw("POST", "/v1/products", headers, name="Tea")
    assert retried.headers["idempotent-replayed"] == "true"
    assert [product.id for product in shop.v1.products.list().data] == [retried.json()["id"]]


def test_a_stored_fault_is_replayed_as_stripe_replays_its_own_500s(shop: Shop) -> None:
    fault = {"path_prefix": "/v1/products", "status": 500, "after_effect": True, "stored": True}
    shop.sandbox.control("fault", **fault)
    headers = {"Idempotency-Key": str(uuid4())}
    for _ in range(2):
        assert shop.raw("POST", "/v1/products", headers, name="Tea").status_code == 500


def test_rate_limits_can_be_simulated(shop: Shop) -> None:
    fault = {
        "path_prefix": "/v1/invoices",
        "status": 429,
        "times": 2,
        "headers": {"Stripe-Rate-Limited-Reason": "endpoint-rate"},
    }
    shop.sandbox.control("fault", **fault)
    answers = [shop.raw("GET", "/v1/invoices") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [429, 429, 200]
    assert answers[0].headers["stripe-rate-limited-reason"] == "endpoint-rate"


def test_a_reset_deletes_everything(receiver: Receiver, launch: Launch) -> None:
    _, found = launch()
    shop = Shop(found, "sk_test_shop")
    shop.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["*"]})
    shop.paid("subscription")
    found.control("reset")
    assert found.stats()["data_sets"] == []
    assert shop.types() == []


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("advance", {"seconds": -1}),
        ("advance", {}),
        ("delivery", {"mode": "sometimes"}),
        ("delivery", {"concurrency": 0}),
        ("fault", {}),
        ("fault", {"status": 500, "colour": "red"}),
        ("pay", {"session": "cs_test_gone"}),
        ("renew", {"subscription": "sub_gone"}),
        ("revoke_key", {}),
    ],
)
def test_controls_report_invalid_requests(
    sandbox: Sandbox, name: str, given: dict[str, object]
) -> None:
    with pytest.raises(Refused) as caught:
        sandbox.control(name, **given)
    assert caught.value.status in (400, 404)


def test_a_sandbox_that_begins_in_the_past_catches_up(tmp_path: Path, launch: Launch) -> None:
    data = str(tmp_path / "sandbox.sqlite")
    process, found = launch("--data", data, "--begin-ago", "90d")
    shop = Shop(found, "sk_test_shop")
    began = shop.v1.customers.create({"email": "a@example.com"}).created
    assert 89 * 86400 < time.time() - began < 91 * 86400
    subscription = shop.paid("subscription")["subscription"]
    process.kill()
    process.wait(10)

    _, found = launch("--data", data)
    shop = Shop(found, "sk_test_shop")
    now = web.get(f"{found.url}/_sandbox/health").json()["now"]
    assert now < time.time() - 89 * 86400, "its time goes on where it was"
    caught_up = found.control("catch_up")["now"]
    assert abs(caught_up - time.time()) < 60
    invoices = shop.get("/v1/invoices", subscription=subscription)["data"]
    months = [round((each["created"] - began) / 86400 / 30.4) for each in invoices[::-1]]
    assert months in ([0, 1, 2], [0, 1, 2, 3]), "each renewal at its time"
    assert found.control("catch_up")["now"] >= caught_up, "once is enough"
