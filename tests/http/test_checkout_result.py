"""The page after a checkout reads how it ended, and never guesses."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api import Api, connect, serving
from http_tokens import ADMIN_KEY, USER, token

POLICIES = """
    ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON payments.stripe_checkout_sessions TO authenticated
    USING (subject_type = 'user' AND subject_id = auth.uid()::text)
    WITH CHECK (subject_type = 'user' AND subject_id = auth.uid()::text);
"""
KEY = "sk_test_result_1"
OTHER_USER = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def shop(database_url: str, sandbox: str) -> Iterator[Api]:
    connect(database_url, sandbox, KEY)
    with serving(database_url, sandbox) as found:
        found.books.execute(POLICIES)
        yield found


def opened(api: Api) -> dict[str, Any]:
    auth = (KEY, "")
    product = httpx.post(
        f"{api.stripe_url}/v1/products", data={"name": "Tea"}, auth=auth, timeout=60
    ).json()
    price = httpx.post(
        f"{api.stripe_url}/v1/prices",
        data={"product": product["id"], "currency": "eur", "unit_amount": "1500"},
        auth=auth,
        timeout=60,
    ).json()
    answer = api.checkout(
        {
            "mode": "payment",
            "lineItems": [{"priceId": price["id"]}],
            "successUrl": "https://shop.test/done",
            "cancelUrl": "https://shop.test/cart",
            "subject": {"type": "user", "id": USER},
        },
        token(),
    )
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()["checkoutSession"]
    return found


def pay(api: Api, session: dict[str, Any]) -> None:
    httpx.post(
        f"{api.stripe_url}/_sandbox/pay", json={"session": session["checkoutSessionId"]}, timeout=60
    ).raise_for_status()


def result(api: Api, session_id: str, wait: float = 0, bearer: str | None = None) -> httpx.Response:
    return api.http.get(
        f"/api/payments/stripe/test/checkout-sessions/{session_id}",
        params={"wait": wait},
        headers={"authorization": f"Bearer {bearer or token()}"},
    )


def test_a_late_webhook_is_fetched_and_the_answer_is_that_it_is_paid(shop: Api) -> None:
    session = opened(shop)
    pay(shop, session)  # and no webhook comes
    answer = result(shop, session["checkoutSessionId"], wait=20)
    assert answer.status_code == 200
    found = answer.json()["checkoutSession"]
    assert (found["id"], found["status"], found["paymentStatus"]) == (
        session["id"],
        "completed",
        "paid",
    )
    ended = "SELECT processing_status AS s FROM payments.webhook_events WHERE event_type = $1"
    assert shop.books.rows(ended, "checkout.session.completed") == [{"s": "processed"}]


def test_the_answer_comes_as_soon_as_the_webhook_did(shop: Api) -> None:
    session = opened(shop)

    def later() -> None:
        shop.books.execute(
            "UPDATE payments.stripe_checkout_sessions SET status = 'completed', "
            "payment_status = 'paid'"
        )

    threading.Timer(0.3, later).start()
    began = time.monotonic()
    found = result(shop, session["id"], wait=30).json()["checkoutSession"]
    assert found["status"] == "completed"
    assert time.monotonic() - began < 20


def test_an_open_session_is_told_as_open_after_the_wait(shop: Api) -> None:
    session = opened(shop)
    assert result(shop, session["id"]).json()["checkoutSession"]["status"] == "open"
    assert result(shop, session["id"], wait=0.2).json()["checkoutSession"]["status"] == "open"


def test_another_user_learns_nothing_of_a_session(shop: Api) -> None:
    session = opened(shop)
    for name in (session["id"], session["checkoutSessionId"], "cs_test_none"):
        answer = result(shop, name, wait=5, bearer=token(sub=OTHER_USER))
        assert (answer.status_code, answer.json()["error"]) == (404, "PAYMENT_NOT_FOUND")


def test_who_is_not_signed_in_and_who_waits_too_long_is_told_so(shop: Api) -> None:
    session = opened(shop)
    path = f"/api/payments/stripe/test/checkout-sessions/{session['id']}"
    assert shop.http.get(path).status_code == 401
    answer = result(shop, session["id"], wait=31)
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert "wait" in answer.json()["message"]


def test_stripe_being_away_does_not_fail_the_page(database_url: str, sandbox: str) -> None:
    connect(database_url, sandbox, KEY)
    with serving(database_url, sandbox) as api:
        session = opened(api)
    with serving(database_url, "http://127.0.0.1:9") as api:
        found = result(api, session["id"], wait=1)
        assert found.json()["checkoutSession"]["status"] == "open"


def test_the_lag_of_the_mirror_is_one_number_in_status_and_metrics(shop: Api) -> None:
    session = opened(shop)
    pay(shop, session)
    path = "/test/mirror"
    assert shop.admin("GET", path).json()["mirror"]["lagSeconds"] is None
    result(shop, session["id"], wait=20)
    deadline = time.monotonic() + 60  # the puller notes it down after the page was told
    while (found := shop.admin("GET", path).json()["mirror"])["lagSeconds"] is None:
        assert time.monotonic() < deadline
    assert found["lagSeconds"] == 0
    assert (found["failedEvents"], found["deadLetters"], found["gap"]) == (0, 0, None)
    text = shop.http.get("/metrics", headers={"authorization": f"Bearer {ADMIN_KEY}"}).text
    assert 'billhook_mirror_lag_seconds{environment="test"} 0.0\n' in text
    assert 'billhook_dead_letters{environment="live"} 0.0\n' in text
    assert shop.http.get("/metrics").status_code == 401
