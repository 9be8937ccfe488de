"""`oneSubscription`: a subject has at most one subscription, and at most one open checkout for
one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from api import opened
from billhook import ApiError, Client
from http_tokens import ADMIN_KEY, USER, token
from selling import Shop

ONE = {"oneSubscription": True}
OTHER = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def plan(shop: Shop) -> str:
    return shop.plan()


def ask(shop: Shop, plan: str, **more: Any) -> httpx.Response:
    return shop.ask(shop.order(plan, options=ONE, **more))


def start(shop: Shop, plan: str, **more: Any) -> dict[str, Any]:
    return opened(ask(shop, plan, **more))


def existing(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 409, answer.text
    error = answer.json()
    assert error["error"] == "PAYMENT_CHECKOUT_ALREADY_EXISTS"
    assert error["nextActions"]
    found: dict[str, Any] = error["existing"]
    return found


def subscriptions(shop: Shop) -> list[Any]:
    return list(shop.account.client.v1.subscriptions.list().data)


def test_an_open_checkout_is_named_with_its_url(shop: Shop, plan: str) -> None:
    first = start(shop, plan)
    assert existing(ask(shop, shop.plan())) == {
        "checkoutSessionId": first["checkoutSessionId"],
        "url": first["url"],
    }
    assert shop.open_at_stripe() == [first["checkoutSessionId"]]


def test_a_subscription_is_named_with_a_link_to_the_portal(shop: Shop, plan: str) -> None:
    shop.pay(start(shop, plan))
    shop.deliver()
    (mirrored,) = subscriptions(shop)
    found = existing(ask(shop, plan))
    assert found.pop("portalUrl").startswith("http")
    assert found == {"subscriptionId": mirrored.id}
    portal = shop.api.books.row("SELECT * FROM payments.stripe_customer_portal_sessions")
    assert (portal["status"], portal["subject_id"]) == ("created", USER)
    assert portal["return_url"] == "https://shop.example/cart"


def test_nobody_gets_links_that_policies_do_not_allow(shop: Shop, plan: str) -> None:
    """Who may start a checkout for a team may neither read others' nor open the portal."""
    shop.api.books.execute(
        """CREATE POLICY members ON payments.stripe_checkout_sessions FOR INSERT TO authenticated
            WITH CHECK (subject_type = 'team');
        CREATE POLICY see_own ON payments.stripe_checkout_sessions FOR SELECT TO authenticated
            USING (subject_type = 'team' AND auth.jwt() ->> 'email' = 'owner@team.example')"""
    )
    body = shop.order(plan, options=ONE, subject={"type": "team", "id": "t_1"})
    session = opened(shop.api.checkout(body, token(email="owner@team.example")))
    member = shop.api.checkout(body, token(OTHER))
    assert existing(member) == {"checkoutSessionId": session["checkoutSessionId"]}
    assert session["url"] not in member.text
    shop.pay(session)
    shop.deliver()
    (mirrored,) = subscriptions(shop)
    assert existing(shop.api.checkout(body, token(OTHER))) == {"subscriptionId": mirrored.id}


def test_of_many_at_once_one_is_open(shop: Shop, plan: str) -> None:
    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(lambda _: ask(shop, plan), range(12)))
    created = [opened(each) for each in answers if each.status_code == 201]
    assert {each.status_code for each in answers} == {201, 409}
    assert len(created) == 1
    assert shop.open_at_stripe() == [created[0]["checkoutSessionId"]]


def test_many_at_once_with_the_same_key_get_the_same_checkout(shop: Shop, plan: str) -> None:
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(shop, plan, idempotencyKey="k"), range(8)))
    assert len({opened(each)["url"] for each in answers}) == 1


@pytest.mark.parametrize("types", [[], ["checkout.session.completed"]])
def test_between_the_payment_and_its_events_there_is_no_gap(
    shop: Shop, plan: str, types: list[str]
) -> None:
    session = start(shop, plan)
    shop.pay(session)
    if types:
        shop.deliver(*types)
        assert shop.api.books.rows("SELECT FROM payments.stripe_subscriptions") == []
    found = existing(ask(shop, plan))
    (made,) = subscriptions(shop)
    assert found["checkoutSessionId"] == session["checkoutSessionId"]
    assert found["subscriptionId"] == made.id
    assert "url" not in found


def test_a_subscription_that_ended_before_its_events_is_not_in_the_way(
    shop: Shop, plan: str
) -> None:
    shop.pay(start(shop, plan))
    shop.deliver("checkout.session.completed")
    (made,) = subscriptions(shop)
    shop.account.client.v1.subscriptions.cancel(made.id)
    start(shop, plan)


@pytest.mark.parametrize(
    ("status", "is_in_the_way"),
    [
        ("active", True),
        ("trialing", True),
        ("past_due", True),
        ("unpaid", True),
        ("incomplete", True),
        ("paused", True),
        ("canceled", False),
        ("incomplete_expired", False),
    ],
)
def test_each_status_is_in_the_way_or_not(
    shop: Shop, plan: str, status: str, *, is_in_the_way: bool
) -> None:
    shop.api.books.execute(
        f"""INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id,
            subject_type, subject_id, status)
        VALUES ('test', 'sub_1', 'cus_1', 'user', '{USER}', '{status}'),
            ('test', 'sub_2', 'cus_2', 'user', '{OTHER}', 'active'),
            ('live', 'sub_3', 'cus_3', 'user', '{USER}', 'active')"""
    )
    answer = ask(shop, plan)
    if is_in_the_way:
        assert existing(answer) == {"subscriptionId": "sub_1"}
    else:
        opened(answer)


@pytest.mark.parametrize("told", [True, False])
def test_after_an_expired_checkout_there_may_be_another(
    shop: Shop, plan: str, *, told: bool
) -> None:
    shop.expire(start(shop, plan))
    if told:
        shop.deliver()
    second = start(shop, plan)
    assert shop.open_at_stripe() == [second["checkoutSessionId"]]


def test_a_checkout_that_is_opened_again_meanwhile_is_in_the_way(shop: Shop, plan: str) -> None:
    """While Stripe says that its session has expired, its own request gets another session."""
    start(shop, plan, idempotencyKey="k")
    (session_id,) = shop.open_at_stripe()
    shop.account.client.v1.checkout.sessions.expire(session_id)
    prefix = f"/v1/checkout/sessions/{session_id}"
    shop.account.fault(path_prefix=prefix, method="GET", seconds=1.5)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(ask, shop, plan)
        asking = "SELECT FROM payments.stripe_checkout_sessions HAVING count(*) = 2"
        while not shop.api.books.rows(asking):
            pass
        shop.deliver()
        again = start(shop, plan, idempotencyKey="k")
        assert existing(slow.result())["url"] == again["url"]
    assert shop.open_at_stripe() == [again["checkoutSessionId"]]


def test_nothing_is_created_while_stripe_cannot_say_whether_a_checkout_is_open(
    shop: Shop, plan: str
) -> None:
    first = start(shop, plan)
    shop.account.fault(path_prefix="/v1/checkout/sessions/", method="GET", status=400)
    assert ask(shop, plan).status_code == 400
    assert shop.open_at_stripe() == [first["checkoutSessionId"]]


def test_a_failed_checkout_is_not_in_the_way(shop: Shop, plan: str) -> None:
    assert ask(shop, "price_none").status_code == 400
    start(shop, plan)


def test_an_interrupted_checkout_is_in_nobodys_way_and_its_retry_finds_the_other(
    shop: Shop, plan: str
) -> None:
    """As if the process had been killed before it wrote Stripe's response."""
    first = start(shop, plan, idempotencyKey="k")
    shop.api.books.execute(
        """ALTER TABLE payments.stripe_checkout_sessions DISABLE TRIGGER USER;
        UPDATE payments.stripe_checkout_sessions SET status = 'initialized', url = NULL,
            checkout_session_id = NULL, raw = '{}';
        ALTER TABLE payments.stripe_checkout_sessions ENABLE TRIGGER USER"""
    )
    second = start(shop, plan)
    assert second["id"] != first["id"]
    found = existing(ask(shop, plan, idempotencyKey="k"))
    assert found["checkoutSessionId"] == second["checkoutSessionId"]


def test_an_interrupted_checkout_is_completed_by_its_retry(shop: Shop, plan: str) -> None:
    first = start(shop, plan, idempotencyKey="k")
    shop.api.books.execute(
        """ALTER TABLE payments.stripe_checkout_sessions DISABLE TRIGGER USER;
        UPDATE payments.stripe_checkout_sessions SET status = 'initialized', url = NULL,
            checkout_session_id = NULL, raw = '{}';
        ALTER TABLE payments.stripe_checkout_sessions ENABLE TRIGGER USER"""
    )
    again = start(shop, plan, idempotencyKey="k")
    assert (again["id"], again["url"]) == (first["id"], first["url"])


def test_of_two_that_are_created_at_once_the_later_one_stays(shop: Shop, plan: str) -> None:
    shop.account.fault(path_prefix="/v1/checkout/sessions", method="POST", seconds=1.5)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(ask, shop, plan, idempotencyKey="slow")
        while not shop.api.books.rows("SELECT FROM billhook.sole_checkouts"):
            pass
        quick = start(shop, plan)
        lost = slow.result()
    assert (lost.status_code, lost.json()["error"]) == (409, "PAYMENT_CHECKOUT_ALREADY_EXISTS")
    assert shop.open_at_stripe() == [quick["checkoutSessionId"]]
    found = existing(ask(shop, plan, idempotencyKey="slow"))
    assert found["url"] == quick["url"]


def test_the_same_key_returns_the_open_checkout_unless_there_is_a_subscription(
    shop: Shop, plan: str
) -> None:
    first = start(shop, plan, idempotencyKey="k")
    assert start(shop, plan, idempotencyKey="k") == first
    shop.api.books.execute(
        f"""INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id,
            subject_type, subject_id, status)
        VALUES ('test', 'sub_1', 'cus_1', 'user', '{USER}', 'active')"""
    )
    assert existing(ask(shop, plan, idempotencyKey="k")) == {"subscriptionId": "sub_1"}
    assert shop.row(first)["status"] == "open"


def test_a_browser_cannot_leave_it_out_if_a_policy_requires_it(shop: Shop, plan: str) -> None:
    shop.api.books.execute(
        """CREATE POLICY one_subscription ON payments.stripe_checkout_sessions AS RESTRICTIVE
            FOR INSERT TO authenticated
            WITH CHECK (mode <> 'subscription' OR options @> '{"oneSubscription": true}'
                OR offer = 'single')"""
    )
    for options in ({}, {"oneSubscription": False}):
        assert shop.ask(shop.order(plan, options=options)).status_code == 403
    shop.offer("single", options=ONE)
    session = shop.open(shop.order(plan, offer="single"))
    assert existing(ask(shop, plan))["url"] == session["url"]
    assert existing(shop.ask(shop.order(plan, offer="single")))["url"] == session["url"]


def test_one_time_payments_are_not_limited(shop: Shop, plan: str) -> None:
    start(shop, plan)
    for _ in range(2):
        shop.open(shop.order(shop.price(), "payment"))


def test_clients_learn_what_exists(shop: Shop, plan: str) -> None:
    first = start(shop, plan)
    with Client(shop.api.url, ADMIN_KEY) as client, pytest.raises(ApiError) as error:
        client.create_checkout_session(
            "test",
            mode="subscription",
            line_items=[{"price_id": plan}],
            success_url="https://shop.example/done",
            cancel_url="https://shop.example/cart",
            subject={"type": "user", "id": USER},
            options={"one_subscription": True},
            act_as={"claims": {"sub": USER}},
        )
    assert error.value.existing == {
        "checkoutSessionId": first["checkoutSessionId"],
        "url": first["url"],
    }
