"""A buyer who pays on the app's own page: the response has a client secret instead of a URL."""

from __future__ import annotations

from typing import Any

import pytest

from billhook import Client
from http_tokens import ADMIN_KEY, USER, token
from selling import Shop

BACK = "https://shop.example/back?session={CHECKOUT_SESSION_ID}"


def on_our_page(shop: Shop, price: str, ui_mode: str = "embedded_page", **more: Any) -> Any:
    body = shop.order(price, "payment", options={"uiMode": ui_mode, "returnUrl": BACK}, **more)
    del body["successUrl"], body["cancelUrl"]
    return body


@pytest.mark.parametrize("ui_mode", ["embedded_page", "elements"])
def test_the_client_secret_is_in_the_answer_and_the_payment_is_recorded(
    shop: Shop, ui_mode: str
) -> None:
    session = shop.open(on_our_page(shop, shop.price(), ui_mode))
    assert session["url"] is None
    assert session["clientSecret"] == shop.at_stripe(session).client_secret
    row = shop.row(session)
    assert (row["success_url"], row["cancel_url"]) == (BACK, BACK)
    shop.pay(session)
    shop.deliver()
    assert shop.row(session)["status"] == "completed"
    assert shop.api.books.row("SELECT amount FROM payments.transactions") == {"amount": 1500}


def test_without_a_redirect_there_is_no_url_at_all(shop: Shop) -> None:
    body = shop.order(shop.price(), "payment")
    del body["successUrl"], body["cancelUrl"]
    body["options"] = {"uiMode": "embedded_page", "redirectOnCompletion": "never"}
    session = shop.open(body)
    assert session["clientSecret"]
    assert shop.row(session)["success_url"] == ""


def test_the_same_key_returns_the_same_client_secret_while_it_is_open(shop: Shop) -> None:
    body = on_our_page(shop, shop.price(), idempotencyKey="k")
    first = shop.open(body)
    assert shop.open(body) == first
    assert len(shop.open_at_stripe()) == 1
    shop.expire(first)
    shop.deliver()
    again = shop.open(body)
    assert again["id"] == first["id"]
    assert again["clientSecret"] != first["clientSecret"]
    shop.pay(again)
    shop.deliver()
    done = shop.open(body)
    assert done["status"] == "completed"
    assert "clientSecret" not in done


def test_policies_on_addresses_apply_to_the_return_url(shop: Shop) -> None:
    shop.api.books.execute(
        """CREATE POLICY ours ON payments.stripe_checkout_sessions AS RESTRICTIVE FOR INSERT
            WITH CHECK (success_url LIKE 'https://shop.example/%')"""
    )
    body = on_our_page(shop, shop.price())
    shop.open(body)
    body["options"]["returnUrl"] = "https://evil.example/back"
    assert shop.ask(body).status_code == 403


def test_an_open_checkout_for_the_one_subscription_is_named_with_its_secret(shop: Shop) -> None:
    body = on_our_page(shop, shop.plan())
    body["mode"] = "subscription"
    body["options"]["oneSubscription"] = True
    first = shop.open(body)
    second = shop.ask(body).json()
    assert second["existing"] == {
        "checkoutSessionId": first["checkoutSessionId"],
        "clientSecret": first["clientSecret"],
    }


def test_the_state_of_a_checkout_does_not_show_its_secret(shop: Shop) -> None:
    session = shop.open(on_our_page(shop, shop.price()))
    path = f"/api/payments/stripe/test/checkout-sessions/{session['id']}"
    answer = shop.api.http.get(path, headers={"Authorization": f"Bearer {token()}"})
    assert answer.json()["checkoutSession"]["status"] == "open"
    assert session["clientSecret"] not in answer.text


def test_python_clients_get_the_secret(shop: Shop) -> None:
    with Client(shop.api.url, ADMIN_KEY) as client:
        session = client.create_checkout_session(
            "test",
            mode="payment",
            line_items=[{"price_id": shop.price(), "adjustable_quantity": {"maximum": 5}}],
            options={"ui_mode": "embedded_page", "return_url": BACK},
            subject={"type": "user", "id": USER},
            act_as={"claims": {"sub": USER}},
        )
    assert session.client_secret
    assert session.trial_granted is None
