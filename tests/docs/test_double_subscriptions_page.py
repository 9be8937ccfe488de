"""docs/how-to/prevent-double-subscriptions.md: one checkout and one subscription per subject."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest
import stripe

import aside
from api import Api, connect, opened, serving
from billhook_sandbox.testing import Sandbox
from http_tokens import USER, token
from pages import app_sql, block, blocks
from stripe_events import event, subscription

PAGE = "docs/how-to/prevent-double-subscriptions.md"
MINE = {"type": "user", "id": USER}
AT_ONCE = 12


@pytest.fixture
def account(sandbox: str) -> Sandbox:
    return Sandbox(sandbox, f"sk_test_{uuid4().hex}")


@pytest.fixture
def app(database_url: str, account: Sandbox) -> Iterator[Api]:
    """Billhook with the policies and the trigger of the docs, and Stripe's SDK of the account."""
    connect(database_url, account.url, account.key)
    with serving(database_url, account.url) as api:
        for sql in (*app_sql(), block(PAGE, "sql", "FUNCTION billing_rules.one_subscription")):
            api.books.execute(sql)
        yield api


@pytest.fixture
def plan(account: Sandbox) -> str:
    given: Any = {
        "currency": "eur",
        "unit_amount": 1500,
        "recurring": {"interval": "month"},
        "product_data": {"name": "Pro"},
    }
    return str(account.client.v1.prices.create(given).id)


def subscribe(app: Api, plan: str, key: str | None = None) -> httpx.Response:
    body = {
        "mode": "subscription",
        "lineItems": [{"priceId": plan}],
        "subject": MINE,
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        **({"idempotencyKey": key} if key else {}),
    }
    return app.checkout(body, token())


def refusal(answer: httpx.Response) -> str:
    assert answer.status_code == 409, answer.text
    error = answer.json()
    assert error["error"] == "DATABASE_DUPLICATE"
    return str(error["message"]).removeprefix("payments.stripe_checkout_sessions: ")


def deliver_new(app: Api, account: Sandbox, *types: str) -> None:
    for each in account.webhooks(*types, secret="whsec_1"):
        assert app.deliver(each.event).is_success


def test_of_many_checkouts_at_once_one_is_created(app: Api, account: Sandbox, plan: str) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(lambda _: subscribe(app, plan), range(AT_ONCE)))
    created = [each for each in answers if each.status_code == 201]
    assert len(created) == 1
    refused = [each for each in answers if each.status_code != 201]
    assert {refusal(each) for each in refused} == {"a checkout is already open"}
    assert len(account.client.v1.checkout.sessions.list().data) == 1


def test_the_same_request_gets_the_same_checkout(app: Api, plan: str) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(lambda _: subscribe(app, plan, "subscribe-pro"), range(AT_ONCE)))
    assert len({opened(each)["url"] for each in answers}) == 1
    assert refusal(subscribe(app, plan, "subscribe-basic")) == "a checkout is already open"


def test_nothing_is_created_between_the_payment_and_the_subscriptions_event(
    app: Api, account: Sandbox, plan: str
) -> None:
    session = opened(subscribe(app, plan))
    account.pay(session["checkoutSessionId"])
    deliver_new(app, account, "checkout.session.completed")
    assert app.books.rows("SELECT FROM payments.stripe_subscriptions") == []
    assert refusal(subscribe(app, plan)) == "a checkout is already open"


def test_after_the_end_of_a_subscription_there_may_be_another(
    app: Api, account: Sandbox, plan: str
) -> None:
    account.pay(opened(subscribe(app, plan))["checkoutSessionId"])
    deliver_new(app, account)
    assert refusal(subscribe(app, plan)) == "a subscription already exists"
    (mirrored,) = app.books.rows("SELECT subscription_id FROM payments.stripe_subscriptions")
    account.client.v1.subscriptions.cancel(mirrored["subscription_id"])
    deliver_new(app, account)
    assert opened(subscribe(app, plan))["status"] == "open"


def test_an_interrupted_checkout_blocks_for_ten_minutes(app: Api, plan: str) -> None:
    session = opened(subscribe(app, plan))
    interrupted = """
        ALTER TABLE payments.stripe_checkout_sessions DISABLE TRIGGER USER;
        UPDATE payments.stripe_checkout_sessions
        SET status = 'initialized', updated_at = now() - interval '{age}';
        ALTER TABLE payments.stripe_checkout_sessions ENABLE TRIGGER USER
    """
    app.books.execute(interrupted.format(age="9 minutes"))
    assert refusal(subscribe(app, plan)) == "a checkout is already open"
    app.books.execute(interrupted.format(age="11 minutes"))
    assert opened(subscribe(app, plan))["id"] != session["id"]


def test_a_checkout_is_expired_for_another_plan(
    app: Api, account: Sandbox, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = opened(subscribe(app, plan))
    monkeypatch.setenv("STRIPE_SECRET_KEY", account.key)
    names: dict[str, Any] = {}
    exec(block(PAGE, "python", "expire_checkouts").replace("'team'", "'user'"), names)

    async def expire() -> None:
        names["client"] = stripe.StripeClient(account.key, base_addresses={"api": account.url})
        connection = await asyncpg.connect(app.books.dsn, statement_cache_size=0)
        try:
            await names["expire_checkouts"](connection, "test", USER)
        finally:
            await connection.close()

    aside.run(expire())
    deliver_new(app, account)
    assert opened(subscribe(app, plan))["id"] != session["id"]


def test_payments_are_not_limited(app: Api, account: Sandbox, plan: str) -> None:
    opened(subscribe(app, plan))
    given: Any = {"currency": "eur", "unit_amount": 1500, "product_data": {"name": "Tea"}}
    once = account.client.v1.prices.create(given).id
    body = {
        "mode": "payment",
        "lineItems": [{"priceId": once}],
        "subject": MINE,
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
    }
    for _ in range(2):
        opened(app.checkout(body, token()))


def test_subjects_with_several_subscriptions_are_found(app: Api) -> None:
    (_, query) = blocks(PAGE, "sql")
    team = {"insforge_subject_type": "team", "insforge_subject_id": "t1"}
    app.books.apply(
        event("customer.subscription.created", subscription("sub_1", metadata=team), at=1)
    )
    assert app.books.rows(query) == []
    app.books.apply(
        event("customer.subscription.created", subscription("sub_2", metadata=team), at=2)
    )
    (found,) = app.books.rows(query)
    assert sorted(found["subscriptions"]) == ["sub_1", "sub_2"]
