"""`shop`: Billhook with a Stripe account of its own, and who buys there."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api import Api, connect, opened, serving
from billhook.access.auth import Caller
from billhook.checkout.sessions import create_checkout_session
from billhook.models import CheckoutSession, CreateCheckoutSession, parse
from billhook.postgres import Database
from billhook.stripe.gateway import Fetched, Gateway
from billhook_sandbox.testing import Sandbox
from http_tokens import ADMIN_KEY, USER, token

MINE = {"type": "user", "id": USER}
CALLER = Caller("user", "authenticated", USER, claims={"sub": USER, "role": "authenticated"})
AS_USER = {"claims": {"sub": USER}}
POLICIES = """
    ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON payments.stripe_checkout_sessions FOR ALL TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.uid()::text)
        WITH CHECK (subject_type = 'user' AND subject_id = auth.uid()::text);
    ALTER TABLE payments.stripe_customer_portal_sessions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON payments.stripe_customer_portal_sessions FOR ALL TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.uid()::text)
        WITH CHECK (subject_type = 'user' AND subject_id = auth.uid()::text);
"""


@dataclass
class Shop:
    """A running Billhook, and its Stripe account."""

    api: Api
    account: Sandbox

    def price(self, amount: int = 1500, **more: Any) -> str:
        given: Any = {
            "currency": "eur",
            "unit_amount": amount,
            "product_data": {"name": "Tea"},
            **more,
        }
        return str(self.account.client.v1.prices.create(given).id)

    def plan(self, amount: int = 1500, **more: Any) -> str:
        return self.price(amount, recurring={"interval": "month"}, **more)

    def order(self, price: str, mode: str = "subscription", **more: Any) -> dict[str, Any]:
        """A request of the user."""
        return {
            "mode": mode,
            "lineItems": [{"priceId": price}],
            "successUrl": "https://shop.example/done",
            "cancelUrl": "https://shop.example/cart",
            "subject": MINE,
            **more,
        }

    def ask(self, body: dict[str, Any], bearer: str | None = None) -> httpx.Response:
        """The user's request, or the server's for the user."""
        if bearer == ADMIN_KEY:
            body = {"actAs": AS_USER, **body}
        return self.api.checkout(body, bearer or token())

    def open(self, body: dict[str, Any], bearer: str | None = None) -> dict[str, Any]:
        return opened(self.ask(body, bearer))

    def offer(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self.api.admin("PUT", f"/test/offers/{name}", body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["offer"]
        return found

    def pay(self, session: dict[str, Any], **more: Any) -> None:
        self.account.pay(session["checkoutSessionId"], **more)

    def deliver(self, *types: str) -> None:
        """Deliver what has happened at Stripe since the last time."""
        for each in self.account.webhooks(*types, secret="whsec_1"):
            answer = self.api.deliver(each.event)
            assert answer.is_success, answer.text

    def at_stripe(self, session: dict[str, Any]) -> Any:
        return self.account.client.v1.checkout.sessions.retrieve(session["checkoutSessionId"])

    def expire(self, session: dict[str, Any]) -> None:
        self.account.client.v1.checkout.sessions.expire(session["checkoutSessionId"])

    def open_at_stripe(self) -> list[str]:
        """The ids of the sessions that can be paid."""
        listed = self.account.client.v1.checkout.sessions.list({"limit": 100, "status": "open"})
        return [each.id for each in listed.data]

    def row(self, session: dict[str, Any]) -> dict[str, Any]:
        query = "SELECT * FROM payments.stripe_checkout_sessions WHERE id = $1"
        return self.api.books.row(query, session["id"])


@pytest.fixture
def shop(database_url: str, sandbox: str) -> Iterator[Shop]:
    """Billhook with the policies of an app whose users buy for themselves."""
    account = Sandbox(sandbox, f"sk_test_{uuid4().hex}")
    connect(database_url, account.url, account.key)
    with serving(database_url, account.url) as api:
        api.books.execute(POLICIES)
        yield Shop(api, account)


def create_while(
    shop: Shop, body: dict[str, Any], happens: Callable[[], object]
) -> CheckoutSession:
    """Create a checkout; something happens while the response with its session is on its way."""

    class Overtaken(Gateway):
        async def post(self, environment: Any, path: str, *args: Any, **more: Any) -> Fetched:
            answer = await super().post(environment, path, *args, **more)
            if path == "/v1/checkout/sessions":
                await asyncio.to_thread(happens)
            return answer

    async def key(_: Any) -> str:
        return shop.account.key

    async def work(database: Database) -> CheckoutSession:
        gateway = Overtaken(key, shop.account.url)
        order = parse(CreateCheckoutSession, body)
        try:
            return await create_checkout_session(
                database, gateway, "test", order, CALLER, datetime.now(UTC)
            )
        finally:
            await gateway.close()

    return shop.api.books.run(work)
