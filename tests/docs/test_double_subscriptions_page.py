"""docs/how-to/prevent-double-subscriptions.md: one checkout and one subscription per subject."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import pytest
import stripe

import aside
from http_tokens import ADMIN_KEY
from pages import block, blocks
from selling import Shop
from stripe_events import event, subscription

PAGE = "docs/how-to/prevent-double-subscriptions.md"
AT_ONCE = 12


@pytest.fixture
def plan(shop: Shop) -> str:
    """What is sold, with the page's policy."""
    shop.api.books.execute(block(PAGE, "sql", "one_subscription"))
    return shop.plan()


def order(shop: Shop, plan: str) -> dict[str, Any]:
    return {**shop.order(plan), **json.loads(block(PAGE, "json", "oneSubscription"))}


def test_the_policy_requires_the_option_of_browsers_and_servers(shop: Shop, plan: str) -> None:
    assert shop.ask(shop.order(plan)).status_code == 403
    assert shop.ask(shop.order(plan), ADMIN_KEY).status_code == 403
    shop.open(shop.order(shop.price(), "payment"))
    shop.open(order(shop, plan))


def test_of_many_checkouts_at_once_one_can_be_paid(shop: Shop, plan: str) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        body = order(shop, plan)
        answers = list(threads.map(lambda _: shop.ask(body), range(AT_ONCE)))
    assert sorted(each.status_code for each in answers) == [201] + [409] * (AT_ONCE - 1)
    assert len(shop.open_at_stripe()) == 1


def test_the_answer_says_where_to_go(shop: Shop, plan: str) -> None:
    session = shop.open(order(shop, plan))
    assert shop.ask(order(shop, plan)).json()["existing"]["url"] == session["url"]
    shop.pay(session)
    shop.deliver()
    assert shop.ask(order(shop, plan)).json()["existing"]["portalUrl"].startswith("http")


def test_a_checkout_is_expired_for_another_plan(
    shop: Shop, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = shop.open(order(shop, plan))
    monkeypatch.setenv("STRIPE_SECRET_KEY", shop.account.key)
    names: dict[str, Any] = {}
    exec(block(PAGE, "python", "expire_checkouts").replace("'team'", "'user'"), names)

    async def expire() -> None:
        addresses: Any = {"api": shop.account.url}
        names["client"] = stripe.StripeClient(shop.account.key, base_addresses=addresses)
        connection = await asyncpg.connect(shop.api.books.dsn, statement_cache_size=0)
        try:
            await names["expire_checkouts"](connection, "test", session["subjectId"])
        finally:
            await connection.close()

    aside.run(expire())
    assert shop.open(order(shop, shop.plan()))["id"] != session["id"]


def test_subjects_with_several_subscriptions_are_found(shop: Shop) -> None:
    (query,) = (each for each in blocks(PAGE, "sql") if "HAVING" in each)
    team = {"insforge_subject_type": "team", "insforge_subject_id": "t1"}
    first = event("customer.subscription.created", subscription("sub_1", metadata=team), at=1)
    second = event("customer.subscription.created", subscription("sub_2", metadata=team), at=2)
    shop.api.books.apply(first)
    assert shop.api.books.rows(query) == []
    shop.api.books.apply(second)
    (found,) = shop.api.books.rows(query)
    assert sorted(found["subscriptions"]) == ["sub_1", "sub_2"]
