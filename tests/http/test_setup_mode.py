"""The mode `setup` saves a card of a subject, and sells nothing."""

from __future__ import annotations

from typing import Any

import pytest

from api import opened
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token
from selling import MINE, Shop


def setup(**more: Any) -> dict[str, Any]:
    return {
        "mode": "setup",
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        "subject": MINE,
        **more,
    }


def test_a_card_is_saved_for_the_subject(shop: Shop) -> None:
    session = shop.open(setup(customerEmail="ada@example.com"))
    assert (session["mode"], session["status"]) == ("setup", "open")
    shop.pay(session)
    shop.deliver()
    row = shop.row(session)
    assert (row["status"], row["payment_status"]) == ("completed", "no_payment_required")
    mapping = shop.api.books.row("SELECT * FROM payments.customer_mappings")
    assert (mapping["subject_id"], mapping["provider_customer_id"]) == (USER, row["customer_id"])
    card = shop.api.books.row("SELECT * FROM payments.stripe_payment_methods")
    assert card["customer_id"] == row["customer_id"]
    assert shop.api.books.rows("SELECT FROM payments.transactions") == []
    found = shop.at_stripe(session)
    intent = shop.account.client.v1.setup_intents.retrieve(found.setup_intent)
    assert intent.metadata is not None
    assert intent.metadata["insforge_subject_id"] == USER


def test_the_next_purchase_uses_the_same_customer(shop: Shop) -> None:
    session = shop.open(setup())
    shop.pay(session)
    shop.deliver()
    customer = shop.row(session)["customer_id"]
    for body in (shop.order(shop.price(), "payment"), setup()):
        assert shop.at_stripe(shop.open(body)).customer == customer


def test_a_declined_card_leaves_the_session_open(shop: Shop) -> None:
    session = shop.open(setup())
    with pytest.raises(Exception, match="declined"):
        shop.pay(session, card="pm_card_chargeDeclined")
    shop.deliver()
    assert shop.row(session)["status"] == "open"
    assert shop.api.books.rows("SELECT FROM payments.customer_mappings") == []


def test_a_currency_lets_stripe_select_payment_methods(shop: Shop) -> None:
    found = shop.at_stripe(shop.open(setup(options={"currency": "eur"})))
    assert found.currency == "eur"


def test_an_expired_setup_is_replaced_by_the_same_request(shop: Shop) -> None:
    body = setup(idempotencyKey="k")
    first = shop.open(body)
    assert shop.open(body) == first
    shop.expire(first)
    shop.deliver()
    again = shop.open(body)
    assert again["id"] == first["id"]
    assert again["url"] != first["url"]


def test_the_result_can_be_awaited(shop: Shop) -> None:
    session = shop.open(setup())
    shop.pay(session)
    path = f"/api/payments/stripe/test/checkout-sessions/{session['id']}?wait=10"
    answer = shop.api.http.get(path, headers={"Authorization": f"Bearer {token()}"})
    assert answer.json()["checkoutSession"]["status"] == "completed"


def test_the_server_may_ask_for_a_user_and_strangers_and_guests_may_not(shop: Shop) -> None:
    shop.open(setup(), ADMIN_KEY)
    theirs = setup(subject={"type": "user", "id": "someone-else"})
    assert shop.ask(theirs).status_code == 403
    assert shop.ask(theirs, ADMIN_KEY).status_code == 403
    assert shop.ask(setup(), ANONYMOUS_KEY).status_code == 403


def test_policies_see_the_mode(shop: Shop) -> None:
    shop.api.books.execute(
        """CREATE POLICY no_setup ON payments.stripe_checkout_sessions AS RESTRICTIVE FOR INSERT
            TO authenticated WITH CHECK (mode <> 'setup')"""
    )
    assert shop.ask(setup()).status_code == 403
    opened(shop.ask(shop.order(shop.price(), "payment")))
