"""docs/how-to/move-to-billhook.md: old and new side by side, compared, and no order fulfilled
twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import shell
from api import Api, opened
from books import Books
from http_tokens import ADMIN_KEY, USER, token
from pages import app_sql, block
from stripe_events import customer, event, subscription

PAGE = "docs/how-to/move-to-billhook.md"
MODE = "    UPDATE public.orders SET status = 'paid'"


def in_test_mode(text: str) -> str:
    return (
        text.replace("'live'", "'test'")
        .replace("WHERE livemode", "WHERE NOT livemode")
        .replace("d.livemode", "NOT d.livemode")
        .replace("--environment live", "--environment test")
    )


# The columns of dj-stripe 2.11 and stripe-sync-engine 0.48.5 that the page reads.
_OTHERS = """
    CREATE TABLE djstripe_subscription (id text UNIQUE, livemode boolean, stripe_data jsonb);
    CREATE TABLE djstripe_customer (
        id text UNIQUE, livemode boolean, created timestamptz, subscriber_id integer,
        stripe_data jsonb);
    CREATE SCHEMA stripe;
    CREATE TYPE stripe.subscription_status AS ENUM ('trialing', 'active', 'canceled');
    CREATE TABLE stripe.subscriptions (
        id text PRIMARY KEY, livemode boolean, status stripe.subscription_status);
    INSERT INTO djstripe_subscription VALUES ('sub_1', false, '{"status": "active"}'),
        ('sub_2', false, '{"status": "active"}'), ('sub_4', false, '{"status": "active"}'),
        ('sub_live', true, '{"status": "active"}');
    INSERT INTO stripe.subscriptions VALUES ('sub_1', false, 'active'), ('sub_2', false, 'active'),
        ('sub_4', false, 'active'), ('sub_live', true, 'active');
    INSERT INTO djstripe_customer VALUES ('cus_1', false, now(), 7, '{}'),
        ('cus_2', false, now(), NULL, '{}'), ('cus_live', true, now(), 8, '{}');
"""


@pytest.mark.parametrize("other", ["djstripe_subscription", "stripe.subscriptions"])
def test_the_comparison_lists_what_differs_and_nothing_else(api: Api, other: str) -> None:
    api.books.execute(_OTHERS)
    api.books.apply(
        event("customer.subscription.updated", subscription("sub_1", status="active")),
        event("customer.subscription.deleted", subscription("sub_2", status="canceled")),
        event("customer.subscription.updated", subscription("sub_3", status="active")),
    )
    found = api.books.rows(in_test_mode(block(PAGE, "sql", f"FROM {other}")))
    assert {tuple(row.values()) for row in found} == {
        ("sub_2", "active", "canceled"),
        ("sub_3", None, "active"),
        ("sub_4", "active", None),
    }


def test_verify_says_who_is_right(api: Api, tmp_path: Path) -> None:
    api.admin("POST", "/test/sync")
    given = {"BILLHOOK_URL": api.url, "BILLHOOK_API_KEY": ADMIN_KEY}
    shell.run(in_test_mode(block(PAGE, "sh", "billhook verify")), tmp_path, given)


@pytest.mark.parametrize(
    ("statement", "subject"),
    [("FROM djstripe_customer", "7"), ("c.metadata ->> 'user_id' IS NOT NULL", "8")],
)
def test_the_owners_of_customers_are_taken_over(
    api: Api, tmp_path: Path, statement: str, subject: str
) -> None:
    api.books.execute(_OTHERS)
    api.books.apply(
        event("customer.created", customer("cus_1", metadata={"user_id": "8"})),
        event("customer.created", customer("cus_2")),
    )
    api.books.execute(in_test_mode(block(PAGE, "sql", statement)))
    given = {"BILLHOOK_URL": api.url, "BILLHOOK_API_KEY": ADMIN_KEY}
    shell.run(in_test_mode(block(PAGE, "sh", "billhook rebuild")), tmp_path, given)
    mapped = api.books.rows(
        "SELECT provider_customer_id, subject_type, subject_id FROM payments.customer_mappings"
    )
    assert mapped == [
        {"provider_customer_id": "cus_1", "subject_type": "user", "subject_id": subject}
    ]


def trigger() -> str:
    """The function of the other page, with the check at the place that this page names."""
    fulfill = app_sql()[0]
    check = block(PAGE, "sql", "the old checkout's")
    assert fulfill.count(MODE) == 1
    return fulfill.replace(MODE, check + MODE)


def old_handler(books: Books) -> Callable[[dict[str, Any]], None]:
    """The handler of before, with the page's half of the rule."""
    found: dict[str, Any] = {}
    exec(block(PAGE, "python", "is_from_billhook"), found)

    def handle(told: dict[str, Any]) -> None:
        session = told["data"]["object"]
        if not found["is_from_billhook"](session):
            books.execute(
                "INSERT INTO fulfilled_by_the_old_handler "
                f"VALUES ('{session['metadata']['order_id']}')"
            )

    return handle


@pytest.fixture
def shop(api: Api) -> Api:
    for sql in (trigger(), *app_sql()[1:]):
        api.books.execute(sql)
    api.books.execute("""
        CREATE TABLE fulfilled_by_the_old_handler (id text);
        INSERT INTO orders VALUES ('old', 'test', 1500, 'eur'), ('new', 'test', 1500, 'eur')""")
    return api


def paid(api: Api, sandbox: str, session: str) -> dict[str, Any]:
    """Pay a session; its event."""
    how = {"session": session, "payment_method": "pm_card_visa"}
    httpx.post(f"{sandbox}/_sandbox/pay", json=how, timeout=60).raise_for_status()
    (told,) = [
        each
        for each in api.stripe.v1.events.list({"limit": 100}).data
        if each.type == "checkout.session.completed" and session in str(each)
    ]
    found: dict[str, Any] = json.loads(str(told))
    return found


def test_each_order_is_fulfilled_once_by_the_side_that_created_its_session(
    shop: Api, price: str, sandbox: str
) -> None:
    by_hand = shop.stripe.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [{"price": price, "quantity": 1}],
            "success_url": "https://your.app/done",
            "metadata": {"order_id": "old"},
        }
    )
    wanted = {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://your.app/done",
        "cancelUrl": "https://your.app/cart",
        "subject": {"type": "user", "id": USER},
        "metadata": {"order_id": "new"},
    }
    through_billhook = opened(shop.checkout(wanted, token()))["checkoutSessionId"]
    handle = old_handler(shop.books)
    for session in (by_hand.id, through_billhook):
        told = paid(shop, sandbox, session)
        handle(told)  # both endpoints get every event
        assert shop.deliver(told).status_code == 200
    by_trigger = shop.books.rows("SELECT id FROM orders WHERE status = 'paid'")
    by_handler = shop.books.rows("SELECT id FROM fulfilled_by_the_old_handler")
    assert (by_trigger, by_handler) == ([{"id": "new"}], [{"id": "old"}])
    assert shop.books.rows("SELECT FROM unmatched_payments") == []


def test_a_trigger_that_comes_later_fires_for_nothing_that_was_processed(
    api: Api, price: str, sandbox: str
) -> None:
    by_hand = api.stripe.v1.checkout.sessions.create(
        {
            "mode": "payment",
            "line_items": [{"price": price, "quantity": 1}],
            "success_url": "https://your.app/done",
            "metadata": {"order_id": "old"},
        }
    )
    told = paid(api, sandbox, by_hand.id)
    api.deliver(told)
    api.books.execute(app_sql()[0])
    api.books.execute("INSERT INTO orders VALUES ('old', 'test', 1500, 'eur')")
    assert api.deliver(told).json()["handled"] is False
    assert api.admin("POST", f"/test/webhook-events/{told['id']}/replay").status_code == 200
    assert api.books.rows("SELECT status FROM orders") == [{"status": "pending"}]
