"""The mirror: what Stripe says of a subscription, and texts and ids as Stripe allows them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from playing import case, play

from billhook.models import Subscription, SubscriptionsQuery
from billhook.postgres import Database
from billhook.reports import lists
from books import Books
from stripe_events import T0, event, subscription

START = datetime.fromtimestamp(T0, UTC)
PERIOD_END = START + timedelta(days=30)


def shown(books: Books) -> Subscription:
    """The one subscription, as the API and the dashboard show it."""

    async def work(database: Database) -> Subscription:
        (found,) = (await lists.subscriptions(database, "test", SubscriptionsQuery())).rows
        return found

    return books.run(work)


def test_a_cancellation_scheduled_in_the_portal_says_when_the_subscription_ends(
    books: Books,
) -> None:
    play(books, case("R1"))
    found = shown(books)
    assert (found.status, found.cancel_at_period_end) == ("active", False)
    assert found.ends_at == found.cancel_at == PERIOD_END
    assert found.renews_at is None


@pytest.mark.parametrize(
    ("fields", "ends", "renews"),
    [
        ({}, None, PERIOD_END),
        ({"cancel_at_period_end": True, "cancel_at": None}, PERIOD_END, None),
        ({"cancel_at": T0 + 86_400}, START + timedelta(days=1), None),
        # Three months from now: it renews until then.
        ({"cancel_at": T0 + 7_776_000}, START + timedelta(days=90), PERIOD_END),
        (
            {"status": "canceled", "canceled_at": T0 + 20, "ended_at": T0 + 86_400},
            START + timedelta(days=1),
            None,
        ),
        # Canceled at once, after the end of its period had been planned.
        (
            {
                "status": "canceled",
                "cancel_at": T0 + 2_592_000,
                "canceled_at": T0 + 20,
                "ended_at": T0 + 30,
            },
            START + timedelta(seconds=30),
            None,
        ),
        ({"status": "canceled", "canceled_at": T0 + 20}, START + timedelta(seconds=20), None),
        ({"status": "incomplete"}, None, None),
        ({"status": "paused"}, None, None),
        ({"status": "canceled", "ended_at": "soon", "canceled_at": None}, None, None),
    ],
)
@pytest.mark.sampled(3)
def test_a_subscription_says_when_it_ends_or_renews(
    books: Books, fields: dict[str, object], ends: datetime | None, renews: datetime | None
) -> None:
    play(books, [event("customer.subscription.updated", subscription(**fields))])
    found = shown(books)
    assert (found.ends_at, found.renews_at) == (ends, renews)


def test_a_subscription_whose_collection_is_paused_says_so_until_it_is_resumed(
    books: Books,
) -> None:
    paused = subscription(
        pause_collection={"behavior": "keep_as_draft", "resumes_at": T0 + 2_592_000}
    )
    play(books, [event("customer.subscription.updated", paused)])
    found = shown(books).pause_collection
    assert found is not None
    assert (found.behavior, found.resumes_at) == ("keep_as_draft", PERIOD_END)
    column = "SELECT pause_collection ->> 'behavior' AS b FROM payments.stripe_subscriptions"
    assert books.row(column)["b"] == "keep_as_draft"

    resumed = subscription(pause_collection=None)
    play(
        books,
        [
            event("customer.subscription.updated", paused),
            event("customer.subscription.updated", resumed, at=9),
        ],
    )
    assert shown(books).pause_collection is None
    assert books.row(column)["b"] is None


def test_a_name_of_long_incompressible_text_is_stored_whole(books: Books) -> None:
    (told,) = case("R13")
    play(books, [told])
    row = books.row("SELECT name FROM payments.stripe_products")
    assert row["name"] == told["data"]["object"]["name"]


def test_ids_that_the_merchant_chose_are_stored_as_they_are(books: Books) -> None:
    play(books, case("R14"))
    product = books.row("SELECT product_id, default_price_id FROM payments.stripe_products")
    price = books.row("SELECT price_id, product_id FROM payments.stripe_prices")
    assert product == {
        "product_id": "shop/42 100%",
        "default_price_id": "Pro plan $699/month",
    }
    assert price == {"price_id": "Pro plan $699/month", "product_id": "shop/42 100%"}
