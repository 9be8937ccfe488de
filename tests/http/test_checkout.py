"""Checkout, end to end: the caller's row, Stripe's session, the payment, the transaction."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, USER, token

POLICIES = """
    ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
    CREATE POLICY own ON payments.stripe_checkout_sessions FOR ALL TO authenticated
        USING (subject_type = 'user' AND subject_id = auth.uid()::text)
        WITH CHECK (subject_type = 'user' AND subject_id = auth.uid()::text);
    CREATE POLICY guests ON payments.stripe_checkout_sessions FOR INSERT TO anon
        WITH CHECK (mode = 'payment' AND subject_id IS NULL);
"""
MINE = {"type": "user", "id": USER}
OTHER = "22222222-2222-4222-8222-222222222222"


def order(price: str, **more: Any) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        **more,
    }


def test_a_user_pays_and_the_row_and_transaction_follow(api: Any, price: str, sandbox: str) -> None:
    api.books.execute(POLICIES)
    answer = api.checkout(order(price, subject=MINE), token())
    assert answer.status_code == 201, answer.text
    session = answer.json()["checkoutSession"]
    assert (session["status"], session["subjectId"]) == ("open", USER)
    assert session["url"].startswith("http")
    paid = httpx.post(
        f"{sandbox}/_sandbox/pay",
        json={"session": session["checkoutSessionId"], "payment_method": "pm_card_visa"},
        timeout=60,
    )
    assert paid.status_code == 200, paid.text
    for each in api.stripe.v1.events.list({"limit": 100}).data:
        if session["id"] in str(each):
            assert api.deliver(each.to_dict()).status_code == 200
    row = api.books.row(
        "SELECT * FROM payments.stripe_checkout_sessions WHERE id = $1", session["id"]
    )
    assert (row["status"], row["payment_status"]) == ("completed", "paid")
    transaction = api.books.row("SELECT * FROM payments.transactions")
    assert (transaction["status"], transaction["amount"]) == ("succeeded", 1500)
    assert transaction["subject_id"] == USER


def test_row_level_security_decides_who_is_billed(api: Any, price: str) -> None:
    api.books.execute(POLICIES)
    answer = api.checkout(order(price, subject={"type": "user", "id": OTHER}), token())
    assert (answer.status_code, answer.json()["error"]) == (403, "AUTH_UNAUTHORIZED")
    assert "stripe_checkout_sessions" in answer.json()["message"]
    assert api.checkout(order(price), ANONYMOUS_KEY).status_code == 201


def test_a_guest_who_may_not_read_is_told_why_a_key_cannot_be_repeated(
    api: Any, price: str
) -> None:
    api.books.execute(POLICIES)
    body = order(price, idempotencyKey="guest-1")
    assert api.checkout(body, ANONYMOUS_KEY).status_code == 201
    again = api.checkout(body, ANONYMOUS_KEY)
    assert (again.status_code, again.json()["error"]) == (409, "PAYMENT_CHECKOUT_ALREADY_EXISTS")
    assert "may not read" in again.json()["message"]
    assert "SELECT policy" in again.json()["nextActions"]


def test_a_repeated_key_gives_the_same_session_to_its_owner_and_nothing_to_others(
    api: Any, price: str
) -> None:
    api.books.execute(POLICIES)
    body = order(price, subject=MINE, idempotencyKey=f"order-{uuid4().hex}")
    first = api.checkout(body, token()).json()["checkoutSession"]
    again = api.checkout(body, token()).json()["checkoutSession"]
    assert (again["id"], again["url"]) == (first["id"], first["url"])
    changed = api.checkout(body | {"cancelUrl": "https://shop.example/x"}, token())
    assert (changed.status_code, changed.json()["error"]) == (
        409,
        "PAYMENT_CHECKOUT_ALREADY_EXISTS",
    )
    stranger = api.checkout(body, token(OTHER))
    assert stranger.status_code in (403, 409)
    assert first["url"] not in stranger.text


@pytest.mark.parametrize(
    ("bearer", "status", "code"),
    [
        (None, 401, "AUTH_INVALID_CREDENTIALS"),
        ("nonsense", 401, "AUTH_UNAUTHORIZED"),
        ("anon_wrong", 401, "AUTH_INVALID_CREDENTIALS"),
        ("ik_wrong", 401, "AUTH_INVALID_API_KEY"),
        (ADMIN_KEY, 401, "AUTH_INVALID_CREDENTIALS"),
        (token(exp=1), 401, "AUTH_UNAUTHORIZED"),
        (token(None), 401, "AUTH_UNAUTHORIZED"),
        (token(role="postgres"), 401, "AUTH_UNAUTHORIZED"),
        (token(secret="another secret, also long enough to sign"), 401, "AUTH_UNAUTHORIZED"),
    ],
)
def test_who_may_not_call_learns_it_before_the_body_is_read(
    api: Any, bearer: str | None, status: int, code: str
) -> None:
    answer = api.checkout({"nonsense": True}, bearer)
    assert (answer.status_code, answer.json()["error"]) == (status, code)
    assert answer.json()["nextActions"]


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"mode": "gift"}, "mode"),
        ({"lineItems": []}, "lineItems"),
        ({"lineItems": [{"priceId": "p", "quantity": 0}]}, "lineItems.0.quantity"),
        ({"lineItems": [{"priceId": "p", "quantity": "1"}]}, "lineItems.0.quantity"),
        ({"successUrl": "javascript:alert(1)"}, "successUrl"),
        ({"metadata": {"insforge_x": "1"}}, "metadata"),
        ({"mode": "subscription"}, "subject"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_bad_body_names_what_is_wrong(api: Any, change: dict[str, Any], path: str) -> None:
    answer = api.checkout(order("price_1") | change, token())
    assert (answer.status_code, answer.json()["error"]) == (400, "INVALID_INPUT")
    assert f"{path}: " in answer.json()["message"]


def test_a_price_that_stripe_does_not_know_leaves_a_failed_row(api: Any) -> None:
    answer = api.checkout(order("price_none"), token())
    assert (answer.status_code, answer.json()["error"]) == (400, "UPSTREAM_FAILURE")
    row = api.books.row("SELECT status, last_error FROM payments.stripe_checkout_sessions")
    assert row["status"] == "failed"
    assert "price_none" in row["last_error"]


def test_an_environment_without_key_says_so(api: Any) -> None:
    answer = api.post("/api/payments/stripe/live/checkout-sessions", order("price_1"), token())
    assert (answer.status_code, answer.json()["error"]) == (400, "PAYMENT_CONFIG_INVALID")


def test_the_portal_needs_a_customer_and_a_user(api: Any) -> None:
    path = "/api/payments/stripe/test/customer-portal-sessions"
    missing = api.post(path, {"subject": MINE}, token())
    assert (missing.status_code, missing.json()["error"]) == (404, "PAYMENT_NOT_FOUND")
    guest = api.post(path, {"subject": MINE}, ANONYMOUS_KEY)
    assert (guest.status_code, guest.json()["error"]) == (401, "AUTH_INVALID_CREDENTIALS")
    customer = api.stripe.v1.customers.create({"email": "a@b.example"})
    api.books.execute(
        f"""INSERT INTO payments.customer_mappings
            (provider, environment, subject_type, subject_id, provider_customer_id)
            VALUES ('stripe', 'test', 'user', '{USER}', '{customer.id}')"""
    )
    opened = api.post(path, {"subject": MINE}, token())
    assert opened.status_code == 201, opened.text
    session = opened.json()["customerPortalSession"]
    assert (session["status"], session["customerId"]) == ("created", customer.id)


def test_two_hundred_checkouts_at_once_all_finish_on_ten_connections(
    api: Any, price: str, sandbox: str
) -> None:
    httpx.post(f"{sandbox}/_sandbox/latency", json={"seconds": 0.2}, timeout=60).raise_for_status()

    async def all_at_once() -> list[httpx.Response]:
        # One thread: in a client that many share, one may close what another reads.
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=api.url, timeout=60, limits=limits) as http:
            path = "/api/payments/stripe/test/checkout-sessions"
            headers = {"Authorization": f"Bearer {token()}"}
            asked = [http.post(path, json=order(price), headers=headers) for _ in range(200)]
            return await asyncio.gather(*asked)

    try:
        answers = asyncio.run(all_at_once())
    finally:
        httpx.post(
            f"{sandbox}/_sandbox/latency", json={"seconds": 0}, timeout=60
        ).raise_for_status()
    assert [each.status_code for each in answers] == [201] * 200


def test_unknown_routes_methods_and_broken_json_answer_in_one_shape(api: Any) -> None:
    lost = api.http.get("/api/nothing")
    assert (lost.status_code, lost.json()["error"]) == (404, "NOT_FOUND")
    wrong = api.http.get("/api/payments/stripe/test/checkout-sessions")
    assert (wrong.status_code, wrong.json()["statusCode"]) == (405, 405)
    broken = api.http.post(
        "/api/payments/stripe/test/checkout-sessions",
        content=b"{",
        headers={"Authorization": f"Bearer {token()}"},
    )
    assert (broken.status_code, broken.json()["error"]) == (400, "INVALID_INPUT")
    assert "JSON" in broken.json()["nextActions"]


def test_a_browser_of_any_origin_may_call(api: Any) -> None:
    answer = api.http.options(
        "/api/payments/stripe/test/checkout-sessions",
        headers={
            "Origin": "https://shop.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_every_route_is_described_with_examples(api: Any) -> None:
    document = api.http.get("/openapi.json").json()
    assert "/api/webhooks/stripe/{environment}" in document["paths"]
    body = document["components"]["schemas"]["CreateCheckoutSession"]
    assert body["examples"][0]["mode"] == "payment"
    for path, operations in document["paths"].items():
        for operation in operations.values():
            assert {"414", "431"} <= operation["responses"].keys(), path
