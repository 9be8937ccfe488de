"""`trialOncePerSubject`: however the checkouts of a subject run, it gets at most one trial."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api import opened
from http_tokens import ADMIN_KEY
from selling import Shop

ONCE = {"trialDays": 14, "trialOncePerSubject": True}


@pytest.fixture
def plan(shop: Shop) -> str:
    shop.offer("trial", options=ONCE)
    return shop.plan()


def start(shop: Shop, plan: str, **more: Any) -> dict[str, Any]:
    return shop.open(shop.order(plan, offer="trial", **more))


def has_trial(shop: Shop, session: dict[str, Any]) -> bool:
    """Whether the subject pays nothing now."""
    granted = bool(shop.at_stripe(session).amount_total == 0)
    assert session["trialGranted"] is granted
    return granted


def trialing(shop: Shop) -> int:
    listed = shop.account.client.v1.subscriptions.list({"status": "trialing"})
    return len(listed.data)


def test_the_second_checkout_has_no_trial(shop: Shop, plan: str) -> None:
    first = start(shop, plan)
    assert has_trial(shop, first)
    shop.pay(first)
    shop.deliver()
    assert not has_trial(shop, start(shop, plan))


def test_another_subject_has_its_own(shop: Shop, plan: str) -> None:
    shop.api.books.execute(
        """CREATE POLICY teams ON payments.stripe_checkout_sessions FOR ALL TO authenticated
            USING (subject_type = 'team') WITH CHECK (subject_type = 'team')"""
    )
    shop.pay(start(shop, plan))
    shop.deliver()
    assert has_trial(shop, start(shop, plan, subject={"type": "team", "id": "t_1"}))


def test_the_second_checkout_has_none_before_the_events_of_the_first(shop: Shop, plan: str) -> None:
    shop.pay(start(shop, plan))
    assert not has_trial(shop, start(shop, plan))
    shop.deliver("checkout.session.completed")
    assert not has_trial(shop, start(shop, plan))


def test_a_canceled_trial_was_one(shop: Shop, plan: str) -> None:
    shop.pay(start(shop, plan))
    (subscription,) = shop.account.client.v1.subscriptions.list().data
    shop.account.client.v1.subscriptions.cancel(subscription.id)
    shop.deliver()
    assert not has_trial(shop, start(shop, plan))


def test_a_trial_that_was_started_at_stripe_counts(shop: Shop, plan: str) -> None:
    customer = shop.account.client.v1.customers.create({"email": "ada@example.com"})
    subject = shop.order("")["subject"]
    given: Any = {
        "customer": customer.id,
        "items": [{"price": plan}],
        "trial_period_days": 14,
        "metadata": {
            "insforge_subject_type": subject["type"],
            "insforge_subject_id": subject["id"],
        },
    }
    shop.account.client.v1.subscriptions.create(given)
    shop.deliver()
    assert not has_trial(shop, start(shop, plan))


def test_an_abandoned_checkout_does_not_use_the_trial(shop: Shop, plan: str) -> None:
    first = start(shop, plan)
    second = start(shop, plan)
    assert has_trial(shop, second)
    # The first one can no longer be paid: there is one trial.
    assert shop.open_at_stripe() == [second["checkoutSessionId"]]
    assert shop.row(first)["status"] == "expired"
    shop.deliver()
    assert shop.row(first)["status"] == "expired"
    shop.pay(second)
    assert trialing(shop) == 1


def test_an_expired_checkout_does_not_use_the_trial(shop: Shop, plan: str) -> None:
    shop.expire(start(shop, plan))
    assert has_trial(shop, start(shop, plan))


def test_the_same_key_keeps_its_trial(shop: Shop, plan: str) -> None:
    first = start(shop, plan, idempotencyKey="k")
    assert start(shop, plan, idempotencyKey="k") == first
    start(shop, plan)  # expires the first one
    again = start(shop, plan, idempotencyKey="k")
    assert again["id"] == first["id"]
    assert again["checkoutSessionId"] != first["checkoutSessionId"]
    assert shop.open_at_stripe() == [again["checkoutSessionId"]]
    assert has_trial(shop, again)


def test_of_many_at_once_one_has_a_trial(shop: Shop, plan: str) -> None:
    body = shop.order(plan, offer="trial")
    with ThreadPoolExecutor(10) as threads:
        answers = list(threads.map(lambda _: shop.ask(body), range(10)))
    statuses = {each.status_code for each in answers}
    assert statuses <= {201, 409}
    for each in answers:
        if each.status_code == 409:
            assert "send the request again" in each.json()["nextActions"].lower()
    # Whatever each buyer does with the session that it got, there is one trial.
    for each in answers:
        if each.status_code == 201:
            session = opened(each)
            if session["checkoutSessionId"] in shop.open_at_stripe():
                shop.pay(session)
    assert trialing(shop) <= 1
    shop.deliver()
    assert not has_trial(shop, start(shop, plan)) or trialing(shop) == 0


def test_a_session_that_lost_its_trial_while_it_was_created_reaches_nobody(
    shop: Shop, plan: str
) -> None:
    """Another checkout takes the trial while Stripe creates the session of the first."""
    shop.account.fault(path_prefix="/v1/checkout/sessions", method="POST", seconds=1.5)
    with ThreadPoolExecutor(1) as threads:
        slow = threads.submit(shop.ask, shop.order(plan, offer="trial", idempotencyKey="slow"))
        while not shop.api.books.rows("SELECT FROM billhook.sole_checkouts"):
            pass
        quick = start(shop, plan)
        lost = slow.result()
    assert (lost.status_code, lost.json()["error"]) == (409, "PAYMENT_CHECKOUT_ALREADY_EXISTS")
    assert shop.open_at_stripe() == [quick["checkoutSessionId"]]
    # The same request again gets the trial, because nobody has paid yet.
    again = shop.open(shop.order(plan, offer="trial", idempotencyKey="slow"))
    assert shop.open_at_stripe() == [again["checkoutSessionId"]]
    assert has_trial(shop, again)


def test_a_checkout_whose_answer_was_lost_is_in_nobodys_way(shop: Shop, plan: str) -> None:
    """As if the process had been killed before it wrote Stripe's response."""
    first = start(shop, plan, idempotencyKey="k")
    shop.api.books.execute(
        """ALTER TABLE payments.stripe_checkout_sessions DISABLE TRIGGER USER;
        UPDATE payments.stripe_checkout_sessions SET status = 'initialized', url = NULL,
            checkout_session_id = NULL, raw = '{}';
        ALTER TABLE payments.stripe_checkout_sessions ENABLE TRIGGER USER"""
    )
    assert has_trial(shop, start(shop, plan))
    again = start(shop, plan, idempotencyKey="k")
    assert (again["id"], has_trial(shop, again)) == (first["id"], True)


def test_the_server_may_give_another_trial(shop: Shop, plan: str) -> None:
    shop.pay(start(shop, plan))
    shop.deliver()
    again = shop.open(shop.order(plan, options={"trialDays": 3}), ADMIN_KEY)
    assert has_trial(shop, again)
    once = shop.open(shop.order(plan, options=ONCE), ADMIN_KEY)
    assert not has_trial(shop, once)
    assert shop.row(once)["trial_granted"] is False
