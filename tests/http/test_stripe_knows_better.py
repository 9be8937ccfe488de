"""What Stripe knows better than the mirror: customers that are gone (R4), metered prices (R2)."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from api import Api, connect, serving
from billhook.stripe.gateway import Gateway
from http_tokens import ANONYMOUS_KEY, USER, token

MINE = {"type": "user", "id": USER}
SESSIONS = "post /v1/checkout/sessions"
PORTAL = "/api/payments/stripe/test/customer-portal-sessions"
_MAP = """
    INSERT INTO payments.customer_mappings
        (provider, environment, subject_type, subject_id, provider_customer_id)
    VALUES ('stripe', 'test', 'user', $1, $2) RETURNING 1
"""
_CLAIM = """
    INSERT INTO billhook.customer_claims
        (environment, customer_id, subject_type, subject_id, kind, ref, claimed_at, outside_ledger)
    VALUES ('test', $2, 'user', $1, 'checkout', 'cs_1', now() - interval '1 hour', false)
    RETURNING 1
"""


_accounts = count(1)


class Stripe:
    """Stripe as the shop's owner uses it: an account of the test's own."""

    def __init__(self, url: str) -> None:
        self.key = f"sk_test_better{next(_accounts)}_1"
        self._url = url

    def ask(self, method: str, path: str, **form: str) -> Any:
        answer = httpx.request(method, f"{self._url}/v1/{path}", auth=(self.key, ""), **given(form))
        answer.raise_for_status()
        return answer.json()

    def price(self, **form: str) -> str:
        product = self.ask("POST", "products", name="Tea")["id"]
        made = self.ask(
            "POST", "prices", product=product, currency="eur", unit_amount="1500", **form
        )
        return str(made["id"])

    def metered(self) -> str:
        calls = {"display_name": "Calls", "event_name": f"calls_{uuid.uuid4().hex}"}
        formula = {"default_aggregation[formula]": "sum"}
        meter = self.ask("POST", "billing/meters", **calls, **formula)["id"]
        metered = {"recurring[usage_type]": "metered", "recurring[meter]": str(meter)}
        return self.price(**{"recurring[interval]": "month", **metered})

    def monthly(self) -> str:
        return self.price(**{"recurring[interval]": "month"})

    def deleted_customer(self) -> str:
        made = self.ask("POST", "customers", email="a@b.test")
        self.ask("DELETE", f"customers/{made['id']}")
        return str(made["id"])

    def session(self, answer: httpx.Response) -> Any:
        assert answer.status_code == 201, answer.text
        name = answer.json()["checkoutSession"]["checkoutSessionId"]
        return self.ask("GET", f"checkout/sessions/{name}?expand[]=line_items")


def given(form: dict[str, str]) -> Any:
    return {"data": form} if form else {}


@pytest.fixture
def shop(database_url: str, sandbox: str, stripe: Stripe) -> Iterator[Api]:
    connect(database_url, sandbox, stripe.key)
    with serving(database_url, sandbox) as found:
        yield found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Billhook asks of Stripe, as it does."""
    found: list[str] = []
    request = Gateway._request

    async def noted(self: Gateway, method: Any, environment: Any, path: str, *rest: Any) -> Any:
        found.append(f"{method} {path}")
        return await request(self, method, environment, path, *rest)

    monkeypatch.setattr(Gateway, "_request", noted)
    return found


@pytest.fixture
def stripe(sandbox: str) -> Stripe:
    return Stripe(sandbox)


def order(*prices: str, **more: Any) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": each, "quantity": 2} for each in prices],
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        "subject": MINE,
        **more,
    }


def mappings(shop: Api) -> list[str]:
    rows = shop.books.rows("SELECT provider_customer_id AS id FROM payments.customer_mappings")
    return [row["id"] for row in rows]


@pytest.mark.parametrize("mode", ["payment", "subscription"])
@pytest.mark.parametrize("known_by", [[_MAP], [_MAP, _CLAIM]])
@pytest.mark.parametrize("gone", ["deleted", "never there"])
def test_a_mapped_customer_that_stripe_does_not_have_is_replaced_and_forgotten(
    shop: Api, stripe: Stripe, mode: str, known_by: list[str], gone: str
) -> None:
    customer = stripe.deleted_customer() if gone == "deleted" else "cus_never_there"
    for statement in known_by:
        shop.books.rows(statement, USER, customer)
    price = stripe.price() if mode == "payment" else stripe.monthly()
    body = order(price, mode=mode, customerEmail="a@b.test", idempotencyKey="k")
    answer = shop.checkout(body, token())
    session = stripe.session(answer)
    assert (session["customer"], session["customer_creation"]) == (None, "always")
    assert session["customer_email"] == "a@b.test"
    assert mappings(shop) == []
    # Once and for all: the same request and the next one ask no more.
    again = shop.checkout(body, token()).json()["checkoutSession"]
    assert again["checkoutSessionId"] == session["id"]
    paid = httpx.post(
        f"{shop.stripe_url}/_sandbox/pay", json={"session": session["id"]}, timeout=60
    )
    paid.raise_for_status()
    for event in stripe.ask("GET", "events?limit=100")["data"][::-1]:
        assert shop.deliver(event).status_code == 200
    (new,) = mappings(shop)
    assert new != customer
    assert stripe.session(shop.checkout(order(price, mode=mode), token()))["customer"] == new


def fault(shop: Api, **more: Any) -> None:
    where = {"path_prefix": "/v1/checkout/sessions", "method": "POST", "after_effect": True}
    made = httpx.post(f"{shop.stripe_url}/_sandbox/fault", json={**where, **more}, timeout=60)
    made.raise_for_status()


@pytest.mark.parametrize("keys", [{}, {"idempotencyKey": "k"}])
def test_a_refusal_that_stripe_stored_under_the_idempotency_key_blocks_nobody(
    shop: Api, stripe: Stripe, keys: dict[str, str]
) -> None:
    shop.books.rows(_MAP, USER, stripe.ask("POST", "customers", email="a@b.test")["id"])
    error = {
        "type": "invalid_request_error",
        "code": "resource_missing",
        "param": "customer",
        "message": "No such customer: 'cus_1'",
    }
    fault(shop, status=400, stored=True, body={"error": error})
    body = order(stripe.price(), **keys)
    session = stripe.session(shop.checkout(body, token()))
    assert session["customer"] is None
    if keys:
        again = shop.checkout(body, token()).json()["checkoutSession"]
        assert again["checkoutSessionId"] == session["id"]


def test_a_checkout_whose_answer_was_lost_goes_on_after_its_subject_became_a_customer(
    shop: Api, stripe: Stripe
) -> None:
    fault(shop, status=500, stored=True, times=10)  # so that a new key does not help at once
    body = order(stripe.price(), idempotencyKey="k")
    assert shop.checkout(body, token()).status_code == 500
    httpx.post(f"{shop.stripe_url}/_sandbox/recover", json={}, timeout=60).raise_for_status()
    customer = stripe.ask("POST", "customers", email="a@b.test")["id"]
    shop.books.rows(_MAP, USER, customer)
    assert stripe.session(shop.checkout(body, token()))["customer"] == customer


def test_a_late_event_gives_a_forgotten_customer_no_mapping_back(shop: Api, stripe: Stripe) -> None:
    customer = stripe.ask("POST", "customers", email="a@b.test")["id"]
    shop.books.rows(_MAP, USER, customer)
    stripe.ask("DELETE", f"customers/{customer}")
    stripe.session(shop.checkout(order(stripe.price()), token()))
    for event in stripe.ask("GET", "events?limit=100")["data"]:
        assert shop.deliver(event).status_code == 200
    assert mappings(shop) == []


def test_the_portal_of_a_customer_that_is_gone_is_not_found(shop: Api, stripe: Stripe) -> None:
    shop.books.rows(_MAP, USER, stripe.deleted_customer())
    for _ in range(2):
        answer = shop.post(PORTAL, {"subject": MINE}, token())
        assert (answer.status_code, answer.json()["error"]) == (404, "PAYMENT_NOT_FOUND")
        assert "first purchase" in answer.json()["nextActions"]
    assert mappings(shop) == []
    rows = shop.books.rows("SELECT status FROM payments.stripe_customer_portal_sessions")
    assert [row["status"] for row in rows] == ["failed", "failed"]


def test_a_price_that_is_missing_is_not_asked_for_again_and_costs_no_customer(
    shop: Api, stripe: Stripe, asked: list[str]
) -> None:
    customer = stripe.ask("POST", "customers", email="a@b.test")["id"]
    shop.books.rows(_MAP, USER, customer)
    answer = shop.checkout(order("price_quantity_none"), token())
    assert (answer.status_code, answer.json()["error"]) == (400, "UPSTREAM_FAILURE")
    assert "No such price" in answer.json()["message"]
    assert asked == [SESSIONS]
    assert mappings(shop) == [customer]
    portal = shop.post(PORTAL, {"subject": MINE, "configuration": "bpc_none"}, token())
    assert (portal.status_code, portal.json()["error"]) == (400, "UPSTREAM_FAILURE")
    assert mappings(shop) == [customer]


@pytest.mark.parametrize("mirrored", [True, False])
@pytest.mark.parametrize("basket", ["alone", "with others"])
def test_a_metered_price_is_sold_without_a_quantity(
    shop: Api, stripe: Stripe, asked: list[str], mirrored: bool, basket: str
) -> None:
    metered, monthly, setup = stripe.metered(), stripe.monthly(), stripe.price()
    prices = [metered] if basket == "alone" else [monthly, metered, setup]
    if mirrored:
        for event in stripe.ask("GET", "events?limit=100")["data"]:
            assert shop.deliver(event).status_code == 200
    answer = shop.checkout(order(*prices, mode="subscription"), token())
    session = stripe.session(answer)
    found = {each["price"]["id"]: each["quantity"] for each in session["line_items"]["data"]}
    assert found == {each: None if each == metered else 2 for each in prices}
    # The mirror knows without a question; else Stripe refuses once, and tells which it is.
    about = sorted(f"get /v1/prices/{each}" for each in prices)
    assert asked[:1] == asked[-1:] == [SESSIONS]
    assert sorted(asked[1:-1]) == ([] if mirrored else about)
    row = shop.books.row("SELECT line_items FROM payments.stripe_checkout_sessions")
    assert row["line_items"] == [{"priceId": each, "quantity": 2} for each in prices]


def test_a_metered_subscription_that_was_bought_is_mirrored(shop: Api, stripe: Stripe) -> None:
    price = stripe.metered()
    session = stripe.session(shop.checkout(order(price, mode="subscription"), token()))
    httpx.post(
        f"{shop.stripe_url}/_sandbox/pay",
        json={"session": session["id"], "email": "a@b.test"},
        timeout=60,
    ).raise_for_status()
    for event in stripe.ask("GET", "events?limit=100")["data"][::-1]:
        assert shop.deliver(event).status_code == 200
    item = shop.books.row(
        "SELECT * FROM payments.stripe_subscription_items WHERE price_id = $1", price
    )
    assert item["quantity"] is None
    row = shop.books.row("SELECT status FROM payments.stripe_subscriptions")
    assert row["status"] == "active"


def test_a_guest_with_a_dead_price_learns_what_stripe_says(shop: Api, stripe: Stripe) -> None:
    price = stripe.price()
    stripe.ask("POST", f"prices/{price}", active="false")
    body = {key: value for key, value in order(price).items() if key != "subject"}
    answer = shop.checkout(body, ANONYMOUS_KEY)
    assert (answer.status_code, answer.json()["error"]) == (400, "UPSTREAM_FAILURE")
    assert "inactive" in answer.json()["message"]
