"""The policies and the trigger of docs/how-to/, over HTTP: who can buy the orders, and what a
payment does."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from http_tokens import ANONYMOUS_KEY, USER, token
from pages import app_sql

OTHER = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def price(api: Any) -> str:
    for block in app_sql():
        api.books.execute(block)
    api.books.execute("INSERT INTO orders VALUES ('1001', 'test', 1500, 'eur')")
    product = api.stripe.v1.products.create({"name": "Mug"})
    made = api.stripe.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 1500}
    )
    return str(made.id)


def order(price: str, **more: Any) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        "metadata": {"order_id": "1001"},
        **more,
    }


@pytest.mark.parametrize(
    ("signed_in", "subject"),
    [(False, None), (True, None), (True, {"type": "user", "id": USER})],
)
def test_users_and_guests_buy_an_order_and_it_is_paid(
    api: Any, price: str, sandbox: str, signed_in: bool, subject: dict[str, str] | None
) -> None:
    wanted = order(price, **({"subject": subject} if subject else {}))
    answer = api.checkout(wanted, token() if signed_in else ANONYMOUS_KEY)
    assert answer.status_code == 201, answer.text
    session = answer.json()["checkoutSession"]["checkoutSessionId"]
    paid = {"session": session, "payment_method": "pm_card_visa"}
    httpx.post(f"{sandbox}/_sandbox/pay", json=paid, timeout=60).raise_for_status()
    for each in api.stripe.v1.events.list({"limit": 100}).data:
        if session in str(each) and each.type == "checkout.session.completed":
            assert api.deliver(each.to_dict()).status_code == 200
    assert api.books.row("SELECT status, paid_by FROM orders") == {
        "status": "paid",
        "paid_by": session,
    }


def test_nobody_buys_in_another_users_name(api: Any, price: str) -> None:
    of_other = order(price, subject={"type": "user", "id": OTHER})
    for bearer in (token(), ANONYMOUS_KEY):
        answer = api.checkout(of_other, bearer)
        assert (answer.status_code, answer.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
