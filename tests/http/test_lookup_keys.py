"""Line items that name a price by its lookup key."""

from __future__ import annotations

import json
from itertools import count
from typing import Any
from uuid import uuid4

import httpx
import pytest

from api import STRIPE_KEY, Api, metered
from billhook import Client
from http_tokens import USER, token
from stripe_events import event

_seconds = count(1)


@pytest.fixture
def key() -> str:
    return f"tea-{uuid4().hex}"


def priced(api: Api, key: str, amount: int, **more: Any) -> str:
    product = api.stripe.v1.products.create({"name": "Tea"})
    params: Any = {
        "product": product.id,
        "currency": "eur",
        "unit_amount": amount,
        "lookup_key": key,
        **more,
    }
    made = api.stripe.v1.prices.create(params)
    mirror(api, made.id)
    return made.id


def mirror(api: Api, *price_ids: str) -> None:
    """What the events of these prices do."""
    for each in price_ids:
        path = f"{api.stripe_url}/v1/prices/{each}"
        price = httpx.get(path, auth=(STRIPE_KEY, ""), timeout=60).json()
        changed = event("price.updated", price, at=next(_seconds))
        for answer in api.books.apply(changed):
            assert answer["processing_status"] == "processed"


def order(*items: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": list(items),
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        **more,
    }


def sold(api: Api, session: dict[str, Any]) -> list[tuple[str, int]]:
    """The prices and quantities of the session at Stripe."""
    items = api.stripe.v1.checkout.sessions.line_items.list(session["checkoutSessionId"]).data
    return [(each.price.id, each.quantity or 0) for each in items if each.price]


def test_a_lookup_key_sells_the_price_that_has_it(api: Api, key: str) -> None:
    old = priced(api, key, 1500)
    other = priced(api, f"{key}-other", 700)
    body = order({"lookupKey": f" {key} ", "quantity": 2}, {"priceId": other})
    first = api.checkout(body, token())
    assert first.status_code == 201, first.text
    assert sold(api, first.json()["checkoutSession"]) == [(old, 2), (other, 1)]
    row = api.books.row(
        "SELECT line_items FROM payments.stripe_checkout_sessions WHERE id = $1",
        first.json()["checkoutSession"]["id"],
    )
    assert row["line_items"] == [
        {"lookupKey": key, "priceId": old, "quantity": 2},
        {"priceId": other, "quantity": 1},
    ], "policies see which price is sold"

    new = priced(api, key, 1900, transfer_lookup_key=True)
    assert sold(api, api.checkout(body, token()).json()["checkoutSession"])[0] == (new, 2)
    mirror(api, old)  # its event may come later
    assert sold(api, api.checkout(body, token()).json()["checkoutSession"])[0] == (new, 2)


@pytest.mark.parametrize(
    "rule",
    [
        "'{allowed}' = ALL (SELECT i ->> 'priceId' FROM jsonb_array_elements(line_items) i)",
        "NOT line_items @> jsonb_build_array(jsonb_build_object('priceId', '{vip}'))",
    ],
)
def test_a_policy_on_prices_decides_about_lookup_keys_too(api: Api, key: str, rule: str) -> None:
    allowed, vip = priced(api, key, 700), priced(api, f"{key}-vip", 1)
    rule = rule.format(allowed=allowed, vip=vip)
    api.books.execute(f"""
        ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
        CREATE FUNCTION public.may_sell(line_items jsonb) RETURNS boolean LANGUAGE sql
            AS $$ SELECT {rule} $$;
        CREATE POLICY sold ON payments.stripe_checkout_sessions TO authenticated
            WITH CHECK (public.may_sell(line_items));
    """)
    assert api.checkout(order({"lookupKey": key}), token()).status_code == 201
    both = order({"lookupKey": key}, {"lookupKey": f"{key}-vip"})
    for refused in (order({"priceId": vip}), order({"lookupKey": f"{key}-vip"}), both):
        assert api.checkout(refused, token()).status_code == 403


def test_after_a_crash_the_price_that_was_accepted_is_sold_or_none(api: Api, key: str) -> None:
    old = priced(api, key, 1500)
    body = order({"lookupKey": key}, idempotencyKey=key, subject={"type": "user", "id": USER})
    first = api.checkout(body, token()).json()["checkoutSession"]
    api.books.execute(f"""
        UPDATE payments.stripe_checkout_sessions
        SET status = 'initialized', url = NULL, checkout_session_id = NULL
        WHERE id = '{first["id"]}'
    """)
    interrupted = "SELECT line_items FROM payments.stripe_checkout_sessions"
    assert api.books.row(interrupted)["line_items"][0]["priceId"] == old
    again = api.checkout(body, token()).json()["checkoutSession"]
    assert again["checkoutSessionId"] == first["checkoutSessionId"]
    assert sold(api, again) == [(old, 1)]


def test_no_price_is_sold_that_policies_have_not_seen_for_the_key(api: Api, key: str) -> None:
    """The caller has inserted the row with SQL of their own, or the key has moved since then."""
    priced(api, key, 1500)
    secret = priced(api, f"{key}-secret", 1)
    body = order({"lookupKey": key}, idempotencyKey=key, subject={"type": "user", "id": USER})
    for stored in (
        [{"lookupKey": key, "priceId": secret, "quantity": 1}],
        [{**body["lineItems"][0], "quantity": 1}],
    ):
        api.books.execute(f"""
            DELETE FROM payments.stripe_checkout_sessions;
            SET ROLE authenticated;
            INSERT INTO payments.stripe_checkout_sessions (environment, mode, subject_type,
                subject_id, line_items, success_url, cancel_url, idempotency_key)
            VALUES ('test', 'payment', 'user', '{USER}', '{json.dumps(stored)}',
                '{body["successUrl"]}', '{body["cancelUrl"]}', '{key}');
            RESET ROLE;
        """)
        refused = api.checkout(body, token())
        assert (refused.status_code, refused.json()["error"]) == (
            409,
            "PAYMENT_CHECKOUT_ALREADY_EXISTS",
        )
        assert "lookup key" in refused.json()["message"]
        assert "idempotencyKey" in refused.json()["nextActions"]


def test_a_repeated_request_gets_its_session_also_when_the_key_has_moved(
    api: Api, key: str
) -> None:
    priced(api, key, 1500)
    body = order({"lookupKey": key}, idempotencyKey=key, subject={"type": "user", "id": USER})
    first = api.checkout(body, token()).json()["checkoutSession"]
    priced(api, key, 1900, transfer_lookup_key=True)
    assert api.checkout(body, token()).json()["checkoutSession"]["url"] == first["url"]
    by_id = order({"priceId": "price_1"}, **{k: body[k] for k in ("idempotencyKey", "subject")})
    assert api.checkout(by_id, token()).status_code == 409, "another request"


@pytest.mark.parametrize("state", ["unknown", "archived"])
def test_a_key_that_no_active_price_has_is_refused(api: Api, key: str, state: str) -> None:
    if state == "archived":
        gone = priced(api, key, 1500)
        api.stripe.v1.prices.update(gone, {"active": False})
        mirror(api, gone)
    known = priced(api, f"{key}-known", 700)
    refused = api.checkout(order({"priceId": known}, {"lookupKey": key}), token())
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_INPUT")
    assert refused.json()["message"].startswith("lineItems.1.lookupKey: no active price has ")
    row = api.books.row("SELECT status, last_error FROM payments.stripe_checkout_sessions")
    assert (row["status"], row["last_error"]) == ("failed", refused.json()["message"])


@pytest.mark.parametrize(
    ("item", "problem"),
    [
        ({}, "lineItems.0: must have either a priceId or a lookupKey"),
        ({"priceId": "price_1", "lookupKey": "tea"}, "lineItems.0: must have either"),
        ({"lookupKey": ""}, "lineItems.0.lookupKey: must have at least 1 character"),
        ({"lookupKey": "x" * 201}, "lineItems.0.lookupKey: must have at most 200 characters"),
        ({"lookupKey": None, "priceId": "price_1"}, "lineItems.0.lookupKey: must not be null"),
    ],
)
def test_an_item_names_one_price(api: Api, item: dict[str, Any], problem: str) -> None:
    refused = api.checkout(order(item), token())
    assert (refused.status_code, refused.json()["error"]) == (400, "INVALID_INPUT")
    assert refused.json()["message"].startswith(problem)


def test_more_keys_than_stripe_takes_at_once_and_metered_prices(api: Api, key: str) -> None:
    monthly = {"recurring": {"interval": "month"}}
    prices = [priced(api, f"{key}-{number}", 100, **monthly) for number in range(11)]
    prices.append(priced(api, f"{key}-metered", 100, recurring=metered(api)))
    with Client(api.url, token()) as client:
        session = client.create_checkout_session(
            "test",
            mode="subscription",
            line_items=[
                *({"lookup_key": f"{key}-{number}"} for number in range(11)),
                {"lookup_key": f"{key}-metered"},
            ],
            subject={"type": "user", "id": USER},
            success_url="https://shop.example/done",
            cancel_url="https://shop.example/cart",
        )
    found = api.stripe.v1.checkout.sessions.line_items.list(
        session.checkout_session_id or "", {"limit": 100}
    )
    assert [each.price and each.price.id for each in found.data] == prices
