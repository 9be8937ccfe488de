"""Subscriptions of users and teams, at Stripe and in the mirror; and who changes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

import httpx

from api import STRIPE_KEY, Api
from http_tokens import USER, token
from waiting import until

MINE = {"type": "user", "id": USER}
OTHER = "22222222-2222-4222-8222-222222222222"
POLICIES = """
    CREATE POLICY own ON payments.stripe_subscriptions FOR SELECT TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.jwt() ->> 'sub');
    CREATE POLICY own_changes ON payments.stripe_subscriptions FOR UPDATE TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.jwt() ->> 'sub');
"""
"""Users see and change their own subscriptions."""

_names = count(1)


def price(api: Api, amount: int = 1500, interval: str = "month", **more: Any) -> str:
    """A recurring price in euros, of a product of its own, at Stripe and in the mirror."""
    given: Any = {
        "currency": "eur",
        "unit_amount": amount,
        "recurring": {"interval": interval},
        "product_data": {"name": f"Plan {next(_names)}"},
        **more,
    }
    made = str(api.stripe.v1.prices.create(given).id)
    deliver(api, made)
    return made


def deliver(api: Api, object_id: str) -> None:
    """Apply all events of an object, the oldest first."""
    for each in events(api, object_id):
        answer = api.deliver(each)
        assert answer.status_code == 200, answer.text


def events(api: Api, object_id: str) -> list[dict[str, Any]]:
    """Stripe's events of an object, the oldest first."""
    found: list[dict[str, Any]] = at_stripe(api, "events", limit="100")["data"]
    return [each for each in reversed(found) if each["data"]["object"].get("id") == object_id]


def at_stripe(api: Api, path: str, **params: str) -> dict[str, Any]:
    """An object as Stripe has it now."""
    url = f"{api.stripe_url}/v1/{path}"
    answer = httpx.get(url, params=params, auth=(STRIPE_KEY, ""), timeout=60)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def control(api: Api, name: str, /, **given: Any) -> Any:
    """A command of the sandbox."""
    answer = httpx.post(f"{api.stripe_url}/_sandbox/{name}", json=given, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def advance(api: Api, clock: str, to: int) -> None:
    """Move a test clock, and wait until all that happens until then has happened."""
    clocks = api.stripe.v1.test_helpers.test_clocks
    clocks.advance(clock, {"frozen_time": to})
    until(lambda: clocks.retrieve(clock).status == "ready", "the test clock to be ready")


@dataclass
class Subscriber:
    """A subject with a subscription.

    Attributes:
        sender: the credential of its requests.
    """

    api: Api
    id: str
    customer: str
    sender: str | None = field(default_factory=token, repr=False)

    def send(self, operation: str, sender: str | None = None, **body: Any) -> httpx.Response:
        """A request to change the subscription."""
        path = f"/api/payments/stripe/test/subscriptions/{self.id}/{operation}"
        return self.api.post(path, body, sender or self.sender)

    def changed(self, operation: str, sender: str | None = None, **body: Any) -> dict[str, Any]:
        """The subscription in the response to a request that succeeds, which is also what the
        mirror shows."""
        return self.response(operation, sender, **body)["subscription"]  # type: ignore[no-any-return]

    def response(self, operation: str, sender: str | None = None, **body: Any) -> dict[str, Any]:
        answer = self.send(operation, sender, **body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert found["subscription"] == self.mirrored()
        return found

    def mirrored(self) -> dict[str, Any]:
        """What the list of subscriptions shows."""
        path = f"/test/subscriptions?customer={self.customer}"
        (found,) = self.api.admin("GET", path).json()["subscriptions"]
        shown: dict[str, Any] = found
        return shown

    def at_stripe(self) -> dict[str, Any]:
        return at_stripe(self.api, f"subscriptions/{self.id}")

    def item(self, number: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.at_stripe()["items"]["data"][number]
        return found


def subscribe(
    api: Api,
    *prices: str,
    subject: dict[str, str] | None = None,
    card: str = "pm_card_visa",
    quantity: int = 1,
    sender: str | None = None,
    test_clock: str | None = None,
    **more: Any,
) -> Subscriber:
    """Somebody who pays for these prices."""
    owner = MINE if subject is None else subject
    method = {"payment_method": card, "invoice_settings": {"default_payment_method": card}}
    clock = {"test_clock": test_clock} if test_clock else {}
    customer = str(api.stripe.v1.customers.create({**method, **clock}).id)  # type: ignore[arg-type]
    given: Any = {
        "customer": customer,
        "items": [{"price": each, "quantity": quantity} for each in prices],
        "metadata": {"insforge_subject_type": owner["type"], "insforge_subject_id": owner["id"]},
        **more,
    }
    made = str(api.stripe.v1.subscriptions.create(given).id)
    deliver(api, made)
    return Subscriber(api, made, customer, sender or token())
