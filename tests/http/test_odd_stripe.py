"""Texts and numbers that PostgreSQL cannot store, in whatever Stripe sends: nothing is held up."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import httpx
import pytest
import stripe

from api import Api, connect, serving
from http_tokens import token
from odd_stripe import HALF, NUL, Change, odd, with_odd_entries
from recovering import Station
from stripe_events import (
    charge,
    customer,
    event,
    payment_intent,
    product,
    refund,
    subscription,
)
from visitor import Visitor

_accounts = count()
REPLACED = "\ufffd"


@pytest.fixture
def key() -> str:
    return f"sk_test_odd{os.getpid()}n{next(_accounts)}_1"


@pytest.fixture
def v1(sandbox: str, key: str) -> Any:
    """The merchant's own hands at Stripe."""
    return stripe.StripeClient(key, base_addresses={"api": sandbox}).v1


@contextmanager
def billhook(
    database_url: str, sandbox: str, key: str, change: Change | None = None, **settings: Any
) -> Iterator[Api]:
    with odd(sandbox, change) as address:
        connect(database_url, sandbox, key)
        with serving(database_url, address, **settings) as api:
            yield api


def synced(api: Api) -> Any:
    answer = api.admin("POST", "/test/sync")
    assert answer.status_code == 200, answer.text
    return answer.json()["results"][0]["connection"]


@pytest.mark.parametrize("odd_text", [NUL, HALF])
def test_a_sync_stores_every_object_of_a_page_with_an_odd_text(
    database_url: str, sandbox: str, key: str, v1: Any, odd_text: str
) -> None:
    odd_one = v1.products.create({"name": f"a{odd_text}b", "metadata": {"k": odd_text}})
    plain = v1.products.create({"name": "plain"})
    v1.customers.create({"name": f"Ada {odd_text}", "email": "ada@example.com"})
    with billhook(database_url, sandbox, key) as api:
        assert synced(api)["lastSyncStatus"] == "succeeded"
        found = {row["product_id"]: row for row in api.books.rows("TABLE payments.stripe_products")}
        assert found[odd_one.id]["name"] == f"a{REPLACED}b"
        assert found[odd_one.id]["metadata"] == {"k": REPLACED}
        assert found[odd_one.id]["raw"]["name"] == f"a{REPLACED}b"
        assert found[plain.id]["name"] == "plain"
        assert api.books.row("SELECT name FROM payments.customers")["name"] == f"Ada {REPLACED}"


def test_an_unchanged_odd_object_is_not_written_again_by_the_next_sync(
    database_url: str, sandbox: str, key: str, v1: Any
) -> None:
    v1.products.create({"name": f"{NUL}{HALF}"})
    with billhook(database_url, sandbox, key) as api:
        synced(api)
        version = "SELECT xmin::text AS x FROM payments.stripe_products"
        before = api.books.row(version)["x"]
        synced(api)
        assert api.books.row(version)["x"] == before


@pytest.mark.parametrize("odd_text", [NUL, HALF])
def test_the_puller_applies_the_events_around_one_with_an_odd_text(
    database_url: str, sandbox: str, odd_text: str
) -> None:
    with odd(sandbox) as address:
        station = Station(database_url, sandbox)
        station.sandbox = address
        for name in ("before", f"odd {odd_text}", "after"):
            station.stripe.v1.customers.create({"name": name})
        station.pull()
        rows = station.books.rows("SELECT name FROM payments.customers")
        assert {row["name"] for row in rows} == {"before", f"odd {REPLACED}", "after"}
        pulled = station.books.row("SELECT error, failures FROM billhook.pulls")
        assert pulled["error"] is None


def test_the_puller_passes_over_entries_that_are_no_events(database_url: str, sandbox: str) -> None:
    def change(path: str, answer: Any) -> None:
        if path == "/v1/events" and answer["data"]:
            whole = answer["data"][0]
            answer["data"] = [
                {**whole, "id": "evt_no_object", "data": {}},
                {**whole, "id": "evt_no_time", "created": "yesterday"},
                {**whole, "id": None},
                {key: value for key, value in whole.items() if key != "type"},
                None,
                *answer["data"],
            ]

    with odd(sandbox, change) as address:
        station = Station(database_url, sandbox)
        station.sandbox = address
        station.stripe.v1.customers.create({"name": "Ada"})
        station.pull()
        assert station.books.row("SELECT name FROM payments.customers")["name"] == "Ada"
        assert station.books.row("SELECT error FROM billhook.pulls")["error"] is None


def test_a_list_page_with_entries_that_are_no_objects_is_stored_without_them(
    database_url: str, sandbox: str, key: str, v1: Any
) -> None:
    v1.products.create({"name": "plain"})

    def change(path: str, answer: Any) -> None:
        if path == "/v1/products" and answer["data"]:
            whole = answer["data"][0]
            answer["data"] = [
                None,
                "prod_text",
                {"id": None},
                {**whole, "id": "prod_nameless", "name": None},
                {**whole, "id": "prod_numbers", "name": 7},
                *answer["data"],
                {"object": "product"},
            ]

    with billhook(database_url, sandbox, key, change) as api:
        assert synced(api)["lastSyncStatus"] == "succeeded"
        assert [row["name"] for row in api.books.rows("TABLE payments.stripe_products")] == [
            "plain"
        ]


def test_the_endpoint_is_managed_although_the_list_has_entries_that_are_no_objects(
    database_url: str, sandbox: str, key: str
) -> None:
    public = "http://127.0.0.1:9"
    with billhook(database_url, sandbox, key, with_odd_entries, public_url=public) as api:
        first, again = (api.admin("POST", "/test/webhook") for _ in range(2))
        assert (first.status_code, again.status_code) == (200, 200), first.text
        assert (
            again.json()["connection"]["webhookEndpointId"]
            == (first.json()["connection"]["webhookEndpointId"])
        )


def test_a_checkout_is_opened_although_stripe_answers_with_an_odd_text(
    database_url: str, sandbox: str, key: str, v1: Any
) -> None:
    product = v1.products.create({"name": f"Tea {NUL}"})
    price = v1.prices.create({"product": product.id, "currency": "eur", "unit_amount": 900})

    def change(path: str, answer: Any) -> None:
        if path == "/v1/checkout/sessions":
            answer["custom_text"] = {"submit": {"message": f"{NUL}{HALF}"}}

    with billhook(database_url, sandbox, key, change) as api:
        answer = api.checkout(
            {
                "mode": "payment",
                "lineItems": [{"priceId": price.id}],
                "successUrl": "https://shop.test/done",
                "cancelUrl": "https://shop.test",
            },
            token(),
        )
        assert answer.status_code == 201, answer.text
        raw = api.books.row("SELECT raw FROM payments.stripe_checkout_sessions")["raw"]
        assert raw["custom_text"]["submit"]["message"] == REPLACED * 2


def test_a_refusal_with_an_odd_text_is_reported_and_kept_in_the_row(
    database_url: str, sandbox: str, key: str
) -> None:
    def change(path: str, answer: Any) -> None:
        if "error" in answer:
            answer["error"]["message"] = f"No such price {NUL}{HALF}"

    with billhook(database_url, sandbox, key, change) as api:
        answer = api.checkout(
            {
                "mode": "payment",
                "lineItems": [{"priceId": "price_none"}],
                "successUrl": "https://shop.test/done",
                "cancelUrl": "https://shop.test",
            },
            token(),
        )
        assert answer.json()["message"] == f"No such price {REPLACED * 2}"
        row = api.books.row("SELECT status, last_error FROM payments.stripe_checkout_sessions")
        assert row == {"status": "failed", "last_error": f"No such price {REPLACED * 2}"}


def test_an_account_with_an_odd_name_is_connected(
    database_url: str, sandbox: str, key: str
) -> None:
    def change(path: str, answer: Any) -> None:
        if path == "/v1/account":
            answer["business_profile"] = {"name": f"Shop {NUL}{HALF}"}
            answer["settings"] = {"dashboard": {"display_name": f"Shop {NUL}{HALF}"}}

    with billhook(database_url, sandbox, key, change) as api:
        answer = api.admin("PUT", "/test/config", {"secretKey": key})
        assert answer.status_code == 200, answer.text
        (connection, _) = api.admin("GET", "/status").json()["connections"]
        assert connection["status"] == "connected"


def test_a_portal_is_opened_although_stripe_answers_with_an_odd_text(
    database_url: str, sandbox: str, key: str, v1: Any
) -> None:
    made = v1.customers.create({"name": f"Ada {HALF}"})

    def change(path: str, answer: Any) -> None:
        if path == "/v1/billing_portal/sessions":
            answer["flow"] = {"note": f"{NUL}{HALF}"}

    with billhook(database_url, sandbox, key, change) as api:
        api.books.execute(
            f"""INSERT INTO payments.customer_mappings
                (provider, environment, subject_type, subject_id, provider_customer_id)
                VALUES ('stripe', 'test', 'team', 't1', '{made.id}')"""
        )
        answer = api.post(
            "/api/payments/stripe/test/customer-portal-sessions",
            {"subject": {"type": "team", "id": "t1"}},
            token(),
        )
        assert answer.status_code == 201, answer.text


def test_a_payment_that_is_fetched_is_shown_whatever_its_texts_contain(
    database_url: str, sandbox: str
) -> None:
    def change(path: str, answer: Any) -> None:
        if path.startswith("/v1/payment_intents/"):
            answer["description"] = f"Tea {NUL}{HALF}"

    with odd(sandbox, change) as address:
        station = Station(database_url, sandbox)
        (session,) = station.bought()
        intent = station.stripe.v1.checkout.sessions.retrieve(session).payment_intent
        station.sandbox = address
        station.books.execute(
            f"""INSERT INTO billhook.refreshes (environment, object_type, object_id, reason)
                VALUES ('test', 'payment_intent', '{intent}', 'test')"""
        )
        station.books.execute(
            f"""INSERT INTO billhook.payment_refs
                VALUES ('test', 'payment_intent', '{intent}', nextval('billhook.payment_ids'))"""
        )
        station.refresh()
        row = station.books.row("SELECT description FROM payments.transactions")
        assert row["description"] == f"Tea {REPLACED * 2}"
        assert station.books.rows("TABLE billhook.refreshes") == []


def test_a_webhook_with_half_of_a_surrogate_pair_is_processed_and_kept(
    database_url: str, sandbox: str, key: str
) -> None:
    body = event("customer.created", customer(name="?", metadata={"k?": "v?"}))
    raw = httpx.Request("POST", "http://x", json=body).content.replace(b"?", rb"\udc00")
    with billhook(database_url, sandbox, key) as api:
        answer = api.deliver(raw)
        assert answer.status_code == 200, answer.text
        row = api.books.row("SELECT name, metadata FROM payments.customers")
        assert row == {"name": REPLACED, "metadata": {f"k{REPLACED}": f"v{REPLACED}"}}
        kept = api.books.row("SELECT payload FROM payments.webhook_events")["payload"]
        assert kept["data"]["object"]["name"] == REPLACED


_HUGE = 2**63 - 1
ODD_NUMBERS = [
    _HUGE,
    -_HUGE,
    2**63,
    2**70,
    1500.0,
    1500.5,
    1e300,
    -1,
    0,
    True,
    "1500",
    [],
    {},
    None,
    253_402_300_800,  # the year 10000
    -62_135_596_801,  # before Christ
    -62_135_596_800,
    8_640_000_000_000,
]


def _with_number(number: Any) -> list[dict[str, Any]]:
    item = {
        "id": "si_1",
        "quantity": number,
        "current_period_start": number,
        "current_period_end": number,
        "price": {"id": "price_1", "product": "prod_1"},
    }
    price = {
        "id": "price_1",
        "object": "price",
        "product": "prod_1",
        "active": True,
        "currency": "eur",
        "type": "recurring",
        "unit_amount": number,
        "unit_amount_decimal": number,
        "recurring": {"interval": "month", "interval_count": number},
        "metadata": number,
        "created": number,
    }
    times = dict.fromkeys(
        ("cancel_at", "canceled_at", "trial_start", "trial_end", "created"), number
    )
    paused = {"behavior": number, "resumes_at": number}
    return [
        event("customer.created", customer(created=number, metadata=number, address=number)),
        event("product.created", product(created=number, metadata=number, default_price=number)),
        event("price.created", price),
        event(
            "customer.subscription.created",
            subscription(items={"data": [item]}, pause_collection=paused, **times),
        ),
        event(
            "payment_intent.succeeded",
            payment_intent(amount=number, amount_received=number, created=number),
        ),
        event(
            "refund.created",
            {
                "id": "re_1",
                "object": "refund",
                "payment_intent": "pi_1",
                "charge": "ch_1",
                "status": "succeeded",
                "amount": number,
                "currency": "eur",
                "created": number,
            },
        ),
    ]


PAGES = ("/catalog", "/customers", "/subscriptions", "/transactions", "/webhook-events")


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=repr)
@pytest.mark.sampled(4)
def test_numbers_that_do_not_fit_stop_no_event_and_no_page(
    database_url: str, sandbox: str, key: str, number: Any
) -> None:
    with billhook(database_url, sandbox, key) as api:
        for each in _with_number(number):
            answer = api.deliver(json.dumps(each).encode())
            assert answer.status_code == 200, (each["type"], answer.text)
        for path in PAGES:
            answer = api.admin("GET", f"/test{path}")
            assert answer.status_code == 200, (path, answer.text)
        assert api.admin("GET", "/test/overview").status_code == 200


HUGE_SUM = {"amount": _HUGE, "amount_received": _HUGE}


def test_sums_beyond_a_bigint_stop_no_event_and_no_page(
    database_url: str, sandbox: str, key: str
) -> None:
    charged = {"amount": _HUGE, "amount_captured": _HUGE, "currency": "eur"}
    with billhook(database_url, sandbox, key) as api:
        told = [event("customer.created", customer())]
        for n in (1, 2):
            pi, ch = f"pi_{n}", f"ch_{n}"
            told.append(
                event("payment_intent.succeeded", payment_intent(pi, latest_charge=ch, **HUGE_SUM))
            )
            told += [
                event(
                    "refund.created",
                    refund(f"re_{n}_{i}", payment_intent=pi, charge=ch, amount=_HUGE),
                )
                for i in (1, 2)
                if n == 1
            ]
        told.append(
            event("charge.refunded", charge("ch_1", amount_refunded=_HUGE, **charged), at=9)
        )
        for each in told:
            answer = api.deliver(each)
            assert answer.status_code == 200, (each["type"], answer.text)
        figures = api.admin("GET", "/test/overview?days=365")
        assert figures.status_code == 200, figures.text
        (currency,) = figures.json()["overview"]["currencies"]
        assert currency["total"]["payments"] == 2 * _HUGE
        for path in PAGES:
            assert api.admin("GET", f"/test{path}").status_code == 200, path
        order = {"order": "largest", "limit": 1}
        first = api.admin("GET", "/test/transactions", params=order)
        second = api.http.get(first.links["next"]["url"], headers=first.request.headers)
        assert second.status_code == 200, second.text
        assert second.json() != first.json()
        visitor = Visitor(api.url)
        visitor.sign_in()
        for page in ("", "/transactions", "/customers", "/customers/cus_1", "/transactions.csv"):
            assert visitor.get(f"/test{page}").status_code == 200, page
        visitor.http.close()


def test_rows_that_somebody_else_wrote_are_listed_whatever_they_hold(
    database_url: str, sandbox: str, key: str
) -> None:
    with billhook(database_url, sandbox, key) as api:
        api.books.execute("""
            INSERT INTO payments.customers (
                provider, environment, provider_customer_id, metadata, raw)
            VALUES ('stripe', 'test', 'cus_1', '["a", 1]', '[]');
            INSERT INTO payments.stripe_products (environment, product_id, name, active, metadata)
            VALUES ('test', 'prod_1', '', true, '{"a": 1, "b": "two", "c": {"d": []}}');
            INSERT INTO payments.stripe_prices (
                environment, price_id, product_id, active, currency, type, metadata,
                unit_amount_decimal)
            VALUES ('test', 'price_1', 'prod_1', true, 'eur', 'tiered', 'null', 'NaN');
            INSERT INTO payments.stripe_subscriptions (
                environment, subscription_id, customer_id, status, metadata, raw, pause_collection)
            VALUES ('test', 'sub_1', 'cus_1', 'brand_new', '7', '"x"', '[1]');
            INSERT INTO payments.stripe_subscription_items (
                environment, subscription_item_id, subscription_id, metadata)
            VALUES ('test', 'si_1', 'sub_1', '[]');
            INSERT INTO payments.transactions (
                provider, environment, type, status, related_object_ids)
            VALUES ('stripe', 'test', 'refund', 'pending', '{"charge": 7, "invoice": null}')""")
        for path in PAGES:
            answer = api.admin("GET", f"/test{path}")
            assert answer.status_code == 200, (path, answer.text)
        (found,) = api.admin("GET", "/test/catalog").json()["products"]
        assert found["metadata"] == {"b": "two"}
        visitor = Visitor(api.url)
        visitor.sign_in()
        for page in ("", "/catalog", "/customers", "/subscriptions", "/transactions"):
            assert visitor.get(f"/test{page}").status_code == 200, page
        visitor.http.close()
