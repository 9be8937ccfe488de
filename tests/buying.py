"""Somebody who buys in the sandbox, and whose events reach Billhook when a test says so."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import stripe

from api import Api, connect, serving

BOUGHT = {"success_url": "https://shop.example/done", "mode": "payment"}


@contextmanager
def selling(database_url: str, sandbox: str, **more: Any) -> Iterator[Buying]:
    """A shop whose Billhook is connected to an account of its own in the sandbox."""
    key = f"sk_test_{uuid4().hex}"
    connect(database_url, sandbox, key)
    with serving(database_url, more.pop("stripe", sandbox), **more) as api:
        shop = Buying(api, sandbox, key)
        yield shop
        shop.control("recover")
        for path in ("/v1/refunds", "/v1/payment_intents"):
            shop.control("latency", seconds=0, path_prefix=path)


class Buying:
    """A shop that sells through an account of the sandbox."""

    def __init__(self, api: Api, sandbox: str, key: str) -> None:
        self.api = api
        self.stripe_url = sandbox
        self.key = key
        self.v1 = stripe.StripeClient(key, base_addresses={"api": sandbox}).v1
        newest = self._events(1)["data"]
        self._newest: str | None = newest[0]["id"] if newest else None

    def elsewhere_and_back(self) -> None:
        """Another account is connected, and then the shop's again."""
        for key in (f"sk_test_{uuid4().hex}", self.key):
            connect(self.api.books.dsn, self.stripe_url, key)

    def control(self, name: str, /, **given: Any) -> Any:
        answer = httpx.post(f"{self.stripe_url}/_sandbox/{name}", json=given, timeout=60)
        answer.raise_for_status()
        return answer.json()

    def lose_answer(self, path: str, *, happened: bool = True) -> None:
        """Stripe fails at the next POST: after its effect, and for ever under that key, or before
        it, as long as the SDK tries."""
        at_once = {"Stripe-Should-Retry": "false"}  # so the SDK does not repeat it
        fault: Any = {"status": 500, "after_effect": True, "stored": True, "headers": at_once}
        if not happened:
            fault = {"cut": True, "times": 3}
        self.control("fault", method="POST", path_prefix=path, **fault)

    def price(self, amount: int = 1500, currency: str = "eur", **more: Any) -> str:
        given: Any = {
            "currency": currency,
            "unit_amount": amount,
            "product_data": {"name": "Mug"},
            **more,
        }
        return str(self.v1.prices.create(given).id)

    def paid(self, *items: tuple[str, int], card: str = "pm_card_visa", **more: Any) -> Any:
        """A paid Checkout Session of these prices and quantities."""
        lines = [{"price": price, "quantity": quantity} for price, quantity in items]
        given: Any = {**BOUGHT, "line_items": lines or [{"price": self.price(), "quantity": 1}]}
        session = self.v1.checkout.sessions.create(given | more)
        self.control("pay", session=session.id, payment_method=card)
        return self.v1.checkout.sessions.retrieve(session.id)

    def customer(self, card: str = "pm_card_visa", *, default: bool = True) -> Any:
        """A customer with a saved payment method."""
        customer = self.v1.customers.create({"email": "ada@example.com"})
        method = self.v1.payment_methods.attach(card, {"customer": customer.id})
        if default:
            settings: Any = {"default_payment_method": method.id}
            self.v1.customers.update(customer.id, {"invoice_settings": settings})
        return self.v1.customers.retrieve(customer.id)

    def settle(self) -> None:
        """The banks answer: what is pending succeeds or fails."""
        self.control("settle")

    def deliver(self, *types: str, order: random.Random | None = None) -> list[dict[str, Any]]:
        """Deliver the new events to Billhook, in their order or in any; only these types."""
        found = [each for each in self.new_events() if not types or each["type"] in types]
        if order is not None:
            order.shuffle(found)
        for event in found:
            answer = self.api.deliver(event)
            assert answer.status_code == 200, answer.text
        return found

    def new_events(self) -> list[dict[str, Any]]:
        """What has happened since the last time, oldest first."""
        found: list[dict[str, Any]] = []
        more = True
        while more:
            page = self._events(100, self._newest)
            found += reversed(page["data"])
            self._newest = found[-1]["id"] if found else self._newest
            more = page["has_more"]
        return found

    def _events(self, limit: int, after: str | None = None) -> Any:
        params = {"limit": limit} | ({"ending_before": after} if after else {})
        answer = httpx.get(
            f"{self.stripe_url}/v1/events", params=params, auth=(self.key, ""), timeout=60
        )
        return answer.raise_for_status().json()


def transactions(api: Api) -> list[dict[str, Any]]:
    return api.books.rows(
        "SELECT type, status, provider_object_id AS id, amount, amount_refunded, currency, "
        "subject_id FROM payments.transactions ORDER BY type = 'refund', provider_created_at, id"
    )


def refunded(api: Api, payment: str, status: int = 201, **body: Any) -> dict[str, Any]:
    answer = api.admin("POST", "/test/refunds", {"payment": payment, **body})
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found
