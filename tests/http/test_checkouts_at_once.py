"""Requests with one idempotency key that are overtaken at their narrowest point: when Stripe has
created the session, and its response has not arrived."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from api import opened
from billhook.errors import CheckoutAlreadyExists
from http_tokens import USER
from selling import Shop, create_while

ONE = {"oneSubscription": True}


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

    with pytest.raises(CheckoutAlreadyExists, match="session has expired"):
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

    with pytest.raises(CheckoutAlreadyExists, match=f"Another checkout for the user {USER} was"):
        create_while(shop, body, overtake)
    assert shop.open_at_stripe() == [again[0]["checkoutSessionId"]]
    assert opened(shop.ask(body)) == again[0]
