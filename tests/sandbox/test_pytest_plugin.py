"""The pytest plugin as an app uses it; runs the example of the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

EXAMPLE = Path(__file__).parents[2] / "docs/reference/sandbox.md"

CONFTEST = '''
import pytest, stripe

pytest_plugins = ["billhook_sandbox.pytest"]

class Shop:
    """An app under test, which ships orders when its webhook reports their payment."""
    url = "https://shop.example/thanks"
    secret = "whsec_shop"

    def __init__(self):
        self.shipped = set()

    def post(self, path, body, headers):
        event = stripe.Webhook.construct_event(body, headers["Stripe-Signature"], self.secret)
        self.shipped.add(event.data.object.id)

    def order(self, session):
        class Order:
            shipped = session in self.shipped
        return Order

@pytest.fixture
def shop():
    return Shop()
'''


def run(pytester: pytest.Pytester, test: str) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test)
    # Without this project's plugins: an app only has pytest and Billhook.
    result = pytester.runpytest_subprocess("-q", "-p", "no:xdist", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=test.count("def test_"))


def test_the_documented_example_runs_as_it_is_written(pytester: pytest.Pytester) -> None:
    found = re.search(r"```python\n(# conftest.py.*?)```", EXAMPLE.read_text(), re.DOTALL)
    assert found is not None
    assert len(found[1].splitlines()) <= 10
    run(pytester, found[1])


def test_each_test_finds_the_sandbox_empty_and_at_real_time(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
from datetime import UTC, datetime, timedelta

def test_one(client, clock):
    client.v1.customers.create({"name": "Ada"})
    before = clock.now()
    assert clock.advance(days=31) - before >= timedelta(days=31)

def test_two(client, clock):
    assert client.v1.customers.list().data == []
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)
""",
    )


def test_outcomes_and_faults_are_set(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
import pytest, stripe
from billhook_sandbox.testing import ControlRefused

def session(client):
    price = {"currency": "usd", "unit_amount": 900, "product_data": {"name": "Tea"}}
    given = {"mode": "payment", "success_url": "https://shop.example"}
    items = [{"price_data": price, "quantity": 1}]
    return client.v1.checkout.sessions.create({**given, "line_items": items}).id

def test_decline(sandbox, client):
    sandbox.set_next_outcome("pm_card_chargeDeclined")
    with pytest.raises(ControlRefused) as caught:
        sandbox.pay(session(client))
    assert caught.value.error["code"] == "card_declined"

def test_fault(sandbox, client):
    sandbox.fault(status=429, reason="global-rate")
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.list()

def test_other_accounts_and_seeds(sandbox):
    assert sandbox.seed(customers=20) == 20
    other = sandbox.with_key("sk_test_other")
    assert other.client.v1.customers.list().data == []
    assert other.seed(products=3) == 3
""",
    )


def test_webhooks_reach_a_server_before_settle_returns(pytester: pytest.Pytester) -> None:
    run(
        pytester,
        """
import json, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import stripe

def test_delivery(sandbox, client):
    received = []
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((body, self.headers["Stripe-Signature"]))
            self.send_response(200)
            self.end_headers()
    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    secret = sandbox.deliver_to(f"http://127.0.0.1:{server.server_port}", "customer.created")
    client.v1.customers.create({"name": "Ada"})
    sandbox.settle()
    [(body, signature)] = received
    assert stripe.Webhook.construct_event(body, signature, secret).data.object.name == "Ada"
    server.shutdown()
""",
    )
