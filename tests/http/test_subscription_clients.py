"""Changes of subscriptions from Python and from the command line."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime

import pytest

from api import Api
from billhook import ApiError, AsyncClient, Client
from cli import Billhook
from http_tokens import ADMIN_KEY, USER, token
from subscribers import MINE, POLICIES, Subscriber, price, subscribe

AS_USER = {"claims": {"sub": USER}}


@pytest.fixture
def mine(api: Api) -> Subscriber:
    api.books.execute(POLICIES)
    return subscribe(api, price(api, 3000), quantity=2)


def test_a_user_changes_a_subscription_with_the_python_client(api: Api, mine: Subscriber) -> None:
    dear = price(api, 9000, lookup_key="python_plan")
    with Client(api.url, token()) as client:
        shown = client.subscriptions.preview(
            "test", mine.id, lookup_key="python_plan", proration_behavior="always_invoice"
        )
        assert shown.amount_due_now == shown.proration_amount > 0
        changed = client.subscriptions.change(
            "test",
            mine.id,
            lookup_key="python_plan",
            proration_behavior="always_invoice",
            payment_behavior="error_if_incomplete",
            proration_date=shown.proration_date,
            idempotency_key="once",
        )
        (item,) = changed.subscription.items
        assert (item.price_id, item.quantity, changed.payment_action) == (dear, 2, None)
        until = datetime(2031, 1, 1, tzinfo=UTC)
        paused = client.subscriptions.pause("test", mine.id, behavior="void", resumes_at=until)
        assert paused.subscription.pause_collection is not None
        assert paused.subscription.pause_collection.resumes_at == until
        canceled = client.subscriptions.cancel(
            "test", mine.id, comment="too dear", feedback="too_expensive"
        )
        assert canceled.subscription.cancel_at_period_end
        resumed = client.subscriptions.resume("test", mine.id, idempotency_key="again")
        assert resumed.subscription.ends_at is None
        assert resumed.subscription.pause_collection is None
        assert (
            client.subscriptions.cancel("test", mine.id, at_period_end=False).subscription.status
            == "canceled"
        )


def test_a_backend_acts_for_a_user_with_the_asynchronous_client(api: Api, mine: Subscriber) -> None:
    async def work() -> None:
        async with AsyncClient(api.url, ADMIN_KEY) as client:
            of = client.subscriptions
            item = mine.item()["id"]
            changed = await of.change("test", mine.id, quantity=5, item_id=item, act_as=AS_USER)
            assert changed.subscription.items[0].quantity == 5
            nobody = {"claims": {"sub": "nobody"}}
            with pytest.raises(ApiError) as refused:
                await of.preview("test", mine.id, quantity=6, act_as=nobody)
            assert (refused.value.status, refused.value.code) == (404, "PAYMENT_NOT_FOUND")
            linked = await client.create_customer_portal_session(
                "test",
                subject=MINE,  # type: ignore[arg-type]
                flow_data={
                    "type": "subscription_update_confirm",
                    "subscription_id": mine.id,
                    "items": [{"quantity": 7}],
                    "after_completion": {"type": "redirect", "return_url": "https://app.example"},
                },
                act_as=AS_USER,
            )
            assert linked.status == "created"

    asyncio.run(work())
    row = api.books.row("SELECT flow_data FROM payments.stripe_customer_portal_sessions")
    assert row["flow_data"] == {
        "type": "subscription_update_confirm",
        "subscriptionId": mine.id,
        "items": [{"quantity": 7}],
        "afterCompletion": {"type": "redirect", "returnUrl": "https://app.example"},
    }


def test_an_operator_changes_a_subscription_on_the_command_line(
    api: Api, mine: Subscriber, linked: Billhook
) -> None:
    dear = price(api, 9000)
    shown = linked("subscriptions", "preview", mine.id, "--price", dear)
    assert "due now 0.00 EUR prorations" in " ".join(shown.out.split())
    assert "180.00 EUR" in shown.out
    raw = linked(
        *("subscriptions", "preview", mine.id, "--price", dear),
        *("--prorations", "always_invoice", "--json"),
    )
    preview = json.loads(raw.out)["preview"]
    out = linked(
        *("subscriptions", "change", mine.id, "--price", dear, "--prorations", "always_invoice"),
        *("--proration-date", preview["prorationDate"], "--idempotency-key", "once"),
    ).out
    assert f"2 × {dear}" in out
    invoice = api.stripe.v1.invoices.retrieve(mine.at_stripe()["latest_invoice"])
    assert invoice.amount_paid == preview["amountDueNow"]

    out = linked("subscriptions", "cancel", mine.id, "--feedback", "unused").out
    assert "ends" in out
    assert "renews" in linked("subscriptions", "resume", mine.id).out
    paused = linked(
        *("subscriptions", "pause", mine.id, "--behavior", "void"),
        *("--resumes-at", "2031-01-01T00:00:00Z"),
    ).out
    assert "collection paused until 2031-01-01" in paused
    assert mine.id in linked("subscriptions", "--customer", mine.customer).out
    asked = linked("subscriptions", "cancel", mine.id, "--now")
    assert (asked.code, mine.mirrored()["status"]) != (0, "canceled")
    gone = linked("subscriptions", "cancel", mine.id, "--now", "--yes", "--json")
    assert json.loads(gone.out)["subscription"]["status"] == "canceled"


def test_a_payment_that_needs_someone_is_shown_on_the_command_line(
    api: Api, linked: Billhook
) -> None:
    mine = subscribe(api, price(api, 3000))
    card = api.stripe.v1.payment_methods.attach(
        "pm_card_threeDSecure2Required", {"customer": mine.customer}
    ).id
    api.stripe.v1.customers.update(
        mine.customer, {"invoice_settings": {"default_payment_method": card}}
    )
    out = linked(
        *("subscriptions", "change", mine.id, "--quantity", "2"),
        *("--prorations", "always_invoice", "--payment", "pending_if_incomplete"),
    ).out
    assert "requires action" in out
    assert "https://invoice.stripe.com/" in out
    assert "change lapses" in out


@pytest.mark.parametrize(
    "arguments",
    [
        ("change", "sub_1", "--quantity", "0"),
        ("change", "sub_1", "--proration-date", "yesterday"),
        ("pause", "sub_1"),
        ("cancel", "sub_1", "--feedback", "rude"),
        ("resume",),
    ],
)
def test_wrong_arguments_are_explained(linked: Billhook, arguments: tuple[str, ...]) -> None:
    assert linked("subscriptions", *arguments).code == 2
