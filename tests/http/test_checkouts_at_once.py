"""Requests with one idempotency key that are overtaken at their narrowest point: when Stripe has
created the session, and its response has not arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from api import opened
from billhook.access.auth import Caller
from billhook.checkout.sessions import create_checkout_session
from billhook.errors import CheckoutAlreadyExists
from billhook.models import CheckoutSession, CreateCheckoutSession, parse
from billhook.postgres import Database
from billhook.stripe.gateway import Fetched, Gateway
from http_tokens import USER
from selling import Shop

ONE = {"oneSubscription": True}
CALLER = Caller("user", "authenticated", USER, claims={"sub": USER, "role": "authenticated"})


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


@pytest.mark.parametrize("options", [{}, ONE], ids=["any", "one subscription"])
def test_one_key_has_one_session_even_if_the_second_request_asks_stripe_for_another(
    shop: Shop, options: dict[str, Any]
) -> None:
    """The subject gets a Stripe customer between the two, so that Stripe does not know the second
    request by its idempotency key."""
    body = shop.order(shop.plan(), options=options, idempotencyKey="k")
    customer = shop.account.client.v1.customers.create({"email": "ada@example.com"}).id
    quick: list[dict[str, Any]] = []

    def overtake() -> None:
        shop.api.books.execute(
            f"""INSERT INTO payments.customer_mappings (provider, environment, subject_type,
                subject_id, provider_customer_id)
            VALUES ('stripe', 'test', 'user', '{USER}', '{customer}')"""
        )
        quick.append(shop.open(body))

    slow = create_while(shop, body, overtake)
    assert (slow.checkout_session_id, slow.url) == (
        quick[0]["checkoutSessionId"],
        quick[0]["url"],
    )
    assert shop.open_at_stripe() == [slow.checkout_session_id]
    assert shop.at_stripe(quick[0]).customer == customer


def test_a_session_that_expires_before_its_response_arrives_is_not_returned(shop: Shop) -> None:
    body = shop.order(shop.plan(), idempotencyKey="k")

    def expire() -> None:
        (session_id,) = shop.open_at_stripe()
        shop.account.client.v1.checkout.sessions.expire(session_id)
        shop.deliver()

    with pytest.raises(CheckoutAlreadyExists, match="at the same time"):
        create_while(shop, body, expire)
    assert [shop.open(body)["checkoutSessionId"]] == shop.open_at_stripe()


def test_a_request_that_has_lost_its_place_leaves_the_session_of_the_same_key(shop: Shop) -> None:
    """Another checkout takes the place of the first; then the same request takes it back and is
    done before the first one knows."""
    plan = shop.plan()
    body = shop.order(plan, options=ONE, idempotencyKey="k")
    again: list[dict[str, Any]] = []

    def overtake() -> None:
        shop.api.books.execute(
            f"UPDATE billhook.sole_checkouts SET session_id = '{uuid4()}'"  # another checkout's
        )
        again.append(shop.open(body))
        shop.api.books.execute(f"UPDATE billhook.sole_checkouts SET session_id = '{uuid4()}'")

    with pytest.raises(CheckoutAlreadyExists):
        create_while(shop, body, overtake)
    assert shop.open_at_stripe() == [again[0]["checkoutSessionId"]]
    assert opened(shop.ask(body)) == again[0]
