"""A repeated request has one effect; an interrupted one is completed by its repetition; and the
mirror shows what the response says, whichever events still arrive."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from api import STRIPE_KEY, Api, connect
from api import serving as running
from billhook.mirror import refreshes
from billhook.mirror.fetching import StripeReader
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway
from http_tokens import token
from odd_stripe import odd
from process import serving
from refusing import RAISING, raising
from subscribers import (
    POLICIES,
    Subscriber,
    at_stripe,
    control,
    events,
    price,
    subscribe,
)

NOW = {"prorationBehavior": "always_invoice"}
FUTURE = "2031-01-01T00:00:00Z"


@pytest.fixture
def mine(api: Api) -> Subscriber:
    api.books.execute(POLICIES)
    return subscribe(api, price(api, 3000), quantity=2)


def updates(mine: Subscriber) -> int:
    return len(events(mine.api, mine.id))


REQUESTS: list[tuple[str, dict[str, Any]]] = [
    ("change", {"quantity": 5, **NOW}),
    ("cancel", {}),
    ("cancel", {"atPeriodEnd": False}),
    ("resume", {}),
    ("pause", {"behavior": "void", "resumesAt": FUTURE}),
]


@pytest.mark.parametrize(("operation", "body"), REQUESTS)
def test_a_repeated_request_has_one_effect(
    mine: Subscriber, operation: str, body: dict[str, Any]
) -> None:
    if operation == "resume":
        mine.changed("cancel")
    first = mine.changed(operation, **body, idempotencyKey="once")
    number = updates(mine)
    again = mine.changed(operation, **body, idempotencyKey="once")
    assert again == first | {name: again[name] for name in ("syncedAt", "updatedAt")}
    assert updates(mine) == number


def test_a_repetition_sees_what_has_happened_since(mine: Subscriber) -> None:
    """It does not undo it."""
    once = {"quantity": 5, "idempotencyKey": "once"}
    mine.changed("change", **once)
    mine.changed("change", quantity=7)
    assert mine.changed("change", **once)["items"][0]["quantity"] == 7


def test_a_key_is_for_one_request(api: Api, mine: Subscriber) -> None:
    mine.changed("change", quantity=5, idempotencyKey="once")
    for operation, body in (
        ("change", {"quantity": 6}),
        ("change", {"quantity": 5, **NOW}),
        ("cancel", {}),
        ("pause", {"behavior": "void"}),
    ):
        refused = mine.send(operation, **body, idempotencyKey="once")
        assert refused.status_code == 409
        assert refused.json()["error"] == "PAYMENT_IDEMPOTENCY_KEY_REUSED"
    assert mine.item()["quantity"] == 5
    # Another subscription's keys are its own.
    other = subscribe(api, price(api))
    assert other.changed("change", quantity=6, idempotencyKey="once")["items"][0]["quantity"] == 6


@pytest.mark.parametrize("key", ["ключ", "x" * 200, 'a"b\\c'])
def test_any_text_can_be_a_key(mine: Subscriber, key: str) -> None:
    for _ in range(2):
        changed = mine.changed("change", quantity=4, idempotencyKey=key)
        assert changed["items"][0]["quantity"] == 4


@pytest.mark.parametrize(("operation", "body"), REQUESTS)
def test_concurrent_requests_with_one_key_have_one_effect(
    mine: Subscriber, operation: str, body: dict[str, Any]
) -> None:
    if operation == "resume":
        mine.changed("cancel")
    before = updates(mine)
    with ThreadPoolExecutor(6) as pool:
        answers = list(
            pool.map(lambda _: mine.send(operation, **body, idempotencyKey="once"), range(6))
        )
    assert {answer.status_code for answer in answers} == {200}, [a.text for a in answers]
    assert all(a.json()["subscription"]["status"] for a in answers)
    expected = {"change": 2}.get(operation, 1)  # the items, then the invoice
    assert updates(mine) - before == expected


def test_concurrent_changes_with_different_keys_all_succeed(mine: Subscriber) -> None:
    with ThreadPoolExecutor(5) as pool:
        quantities = range(3, 8)
        answers = list(pool.map(lambda n: mine.send("change", quantity=n), quantities))
    assert {answer.status_code for answer in answers} == {200}
    settle(mine)
    assert mine.mirrored()["items"][0]["quantity"] == mine.item()["quantity"]


def lose_the_answer(api: Api, mine: Subscriber, method: str = "POST") -> None:
    """Stripe makes the change; neither its answer nor a repetition by the SDK gets through."""
    of = {"path_prefix": f"/v1/subscriptions/{mine.id}", "method": method}
    control(api, "fault", cut=True, after_effect=True, **of)
    # The HTTP client repeats a DELETE by itself.
    control(api, "fault", status=503, times=3 if method == "DELETE" else 2, **of)


@pytest.mark.parametrize(("operation", "body"), REQUESTS)
def test_an_answer_that_is_lost_is_given_again(
    api: Api, mine: Subscriber, operation: str, body: dict[str, Any]
) -> None:
    if operation == "resume":
        mine.changed("cancel")
    before = updates(mine)
    lose_the_answer(api, mine, "DELETE" if body.get("atPeriodEnd") is False else "POST")
    lost = mine.send(operation, **body, idempotencyKey="once")
    assert (lost.status_code, lost.json().get("error")) == (503, "UPSTREAM_FAILURE"), lost.text
    mine.changed(operation, **body, idempotencyKey="once")
    assert updates(mine) - before == {"change": 2}.get(operation, 1)


def test_a_plan_that_was_decided_once_is_what_a_repetition_sends(
    api: Api, mine: Subscriber
) -> None:
    """The first attempt kept two seats. Somebody changed them before the second."""
    dear = price(api, 9000)
    lose_the_answer(api, mine)
    once = {"priceId": dear, "idempotencyKey": "once"}
    assert mine.send("change", **once).status_code == 503
    item = mine.item()
    assert (item["price"]["id"], item["quantity"]) == (dear, 2)
    api.stripe.v1.subscription_items.update(item["id"], {"quantity": 9})
    changed = mine.changed("change", **once)
    assert changed["items"][0]["quantity"] == 9, "what was done is done, and shown as it is now"


def test_what_stripe_refuses_can_be_sent_again(api: Api, mine: Subscriber) -> None:
    path = f"/v1/subscriptions/{mine.id}"
    control(api, "fault", status=503, path_prefix=path, method="POST", times=3)
    once = {"quantity": 5, "idempotencyKey": "once"}
    failed = mine.send("change", **once)
    assert (failed.status_code, failed.json()["error"]) == (503, "UPSTREAM_FAILURE")
    assert mine.changed("change", **once)["items"][0]["quantity"] == 5
    limited = {"error": {"type": "invalid_request_error", "message": "Too many requests."}}
    control(api, "fault", status=429, path_prefix=path, method="POST", body=limited)
    refused = mine.send("cancel")
    assert (refused.status_code, refused.json()["error"]) == (429, "RATE_LIMITED")


@pytest.mark.parametrize("happened", [True, False])
def test_a_failure_that_stripe_repeats_does_not_block_the_key(
    api: Api, mine: Subscriber, *, happened: bool
) -> None:
    failing = {"status": 500, "stored": True, "after_effect": happened}
    control(api, "fault", path_prefix=f"/v1/subscriptions/{mine.id}", method="POST", **failing)
    once = {"quantity": 5, **NOW, "idempotencyKey": "once"}
    assert mine.send("change", **once).status_code == 500
    assert mine.changed("change", **once)["items"][0]["quantity"] == 5
    invoices = api.stripe.v1.invoices.list({"customer": mine.customer}).data
    assert len(invoices) == 2  # the first period, and the change once
    assert mine.changed("change", **once)["items"][0]["quantity"] == 5
    assert len(api.stripe.v1.invoices.list({"customer": mine.customer}).data) == 2


@pytest.mark.parametrize("how", RAISING)
def test_a_trigger_that_rejects_the_result_can_be_fixed(
    api: Api, mine: Subscriber, how: str
) -> None:
    api.books.execute(raising("payments.stripe_subscriptions", how))
    once = {"quantity": 5, **NOW, "idempotencyKey": "once"}
    refused = mine.send("change", **once)
    assert (refused.status_code, refused.json()["error"]) == (400, "DATABASE_VALIDATION_ERROR")
    assert "Stripe has changed" in refused.json()["message"]
    api.books.execute("DROP TRIGGER odd ON payments.stripe_subscriptions")
    number = updates(mine)
    assert mine.changed("change", **once)["items"][0]["quantity"] == 5
    assert updates(mine) == number


def test_a_server_that_is_killed_while_stripe_works_changes_it_once(
    api: Api, mine: Subscriber, tmp_path: Path
) -> None:
    """The request is stored, Stripe has made the change, and the process is gone."""
    once = {"quantity": 5, **NOW, "idempotencyKey": "once"}
    path = f"/api/payments/stripe/test/subscriptions/{mine.id}/change"
    headers = {"Authorization": f"Bearer {token()}"}
    before = updates(mine)
    with serving(api.books.dsn, api.stripe_url, tmp_path) as server:
        stripes = f"/v1/subscriptions/{mine.id}"
        control(api, "fault", seconds=5, path_prefix=stripes, method="POST")
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(
                httpx.post, server.url + path, json=once, headers=headers, timeout=60
            )
            while mine.item()["quantity"] != 5:
                assert not sent.done(), sent.result().text
            server.kill()
            assert isinstance(sent.exception(), httpx.TransportError)
    assert mine.mirrored()["items"][0]["quantity"] == 2
    while mine.send("change", **once).status_code == 409:
        pass  # Stripe still works on the first one
    assert mine.changed("change", **once)["items"][0]["quantity"] == 5
    assert updates(mine) - before == 2


def test_old_requests_are_forgotten(api: Api, mine: Subscriber) -> None:
    mine.changed("change", quantity=5, idempotencyKey="old")
    api.books.execute(
        "UPDATE billhook.subscription_requests SET created_at = now() - interval '31 days'"
    )
    mine.changed("change", quantity=6, idempotencyKey="new")
    rows = api.books.rows("SELECT idempotency_key, finished_at FROM billhook.subscription_requests")
    assert [row["idempotency_key"] for row in rows] == ["new"]
    assert rows[0]["finished_at"] is not None


# What still arrives.


def settle(mine: Subscriber) -> None:
    """What the recovery worker does, some seconds later."""
    control(mine.api, "advance", seconds=5)

    async def key(_: Environment) -> str:
        return STRIPE_KEY

    async def work(database: Database) -> None:
        gateway = Gateway(key, mine.api.stripe_url)
        try:
            await refreshes.settle_all(StripeReader(database, gateway, "test"))
        finally:
            await gateway.close()

    mine.api.books.run(work)


def test_late_events_do_not_overwrite_the_answer(api: Api, mine: Subscriber) -> None:
    """Pausing and resuming within a second: the event of the pause says that it changed what the
    answer to the resumption shows."""
    mine.changed("pause", behavior="void")
    resumed = mine.changed("resume")
    assert resumed["pauseCollection"] is None
    for each in events(api, mine.id):
        assert api.deliver(each).json()["event"]["processingStatus"] == "processed"
        assert mine.mirrored()["pauseCollection"] is None
    for each in reversed(events(api, mine.id)):
        api.deliver(each)
        assert mine.mirrored()["pauseCollection"] is None


def test_an_event_of_the_pause_that_came_first_does_not_stop_the_answer(
    api: Api, mine: Subscriber
) -> None:
    mine.changed("pause", behavior="void")
    for each in events(api, mine.id):
        api.deliver(each)
    assert mine.changed("resume")["pauseCollection"] is None


def test_another_change_of_the_same_second_is_not_lost(api: Api, mine: Subscriber) -> None:
    """Somebody else's event has the time of our answer and comes after it."""
    mine.changed("change", quantity=5)
    version = api.books.row("SELECT provider_event_at FROM payments.stripe_subscriptions")
    api.stripe.v1.subscription_items.update(mine.item()["id"], {"quantity": 6})
    (*_, theirs) = events(api, mine.id)
    theirs["created"] = int(version["provider_event_at"].timestamp()) - 1
    api.deliver(theirs)
    assert mine.mirrored()["items"][0]["quantity"] == 5
    settle(mine)
    assert mine.mirrored()["items"][0]["quantity"] == 6


def test_a_later_event_wins(api: Api, mine: Subscriber) -> None:
    mine.changed("change", quantity=5)
    version = api.books.row("SELECT provider_event_at FROM payments.stripe_subscriptions")
    api.stripe.v1.subscription_items.update(mine.item()["id"], {"quantity": 6})
    (*_, theirs) = events(api, mine.id)
    theirs["created"] = int(version["provider_event_at"].timestamp())
    api.deliver(theirs)
    assert mine.mirrored()["items"][0]["quantity"] == 6


def test_a_rebuild_and_a_verification_agree_with_the_answer(api: Api, mine: Subscriber) -> None:
    mine.changed("change", quantity=5)
    mine.changed("cancel")
    rebuilt = api.admin("POST", "/test/rebuild", {"swap": True})
    assert rebuilt.status_code == 200, rebuilt.text
    assert mine.mirrored()["items"][0]["quantity"] == 5
    assert mine.mirrored()["cancelAtPeriodEnd"] is True


# Payments that someone must act on.


def broke(api: Api, card: str) -> Subscriber:
    """Somebody whose card was fine once."""
    mine = subscribe(api, price(api, 3000))
    attached = api.stripe.v1.payment_methods.attach(card, {"customer": mine.customer}).id
    api.stripe.v1.customers.update(
        mine.customer, {"invoice_settings": {"default_payment_method": attached}}
    )
    return mine


@pytest.mark.parametrize(
    ("card", "reason"),
    [
        ("pm_card_threeDSecure2Required", "requires_action"),
        ("pm_card_chargeCustomerFail", "requires_payment_method"),
    ],
)
def test_a_payment_that_needs_someone_comes_with_a_link(api: Api, card: str, reason: str) -> None:
    api.books.execute(POLICIES)
    mine = broke(api, card)
    answer = mine.response("change", quantity=2, **NOW)
    action = answer["paymentAction"]
    invoice = at_stripe(api, f"invoices/{mine.at_stripe()['latest_invoice']}")
    assert action == {
        "reason": reason,
        "invoiceId": invoice["id"],
        "amountDue": invoice["amount_remaining"],
        "currency": "eur",
        "url": invoice["hosted_invoice_url"],
        "expiresAt": None,
    }
    assert action["url"].startswith("https://")
    assert (answer["subscription"]["status"], mine.item()["quantity"]) == ("past_due", 2)
    for operation, body in (("cancel", {}), ("pause", {"behavior": "void"}), ("resume", {})):
        assert mine.response(operation, **body)["paymentAction"] == action
    mirrored = api.admin("GET", f"/test/invoices?subscription={mine.id}").json()["invoices"]
    assert invoice["id"] in {each["invoiceId"] for each in mirrored}


def test_money_that_is_on_its_way_needs_nobody(database_url: str, sandbox: str) -> None:
    """Such as a bank debit, which takes days."""

    def debit(path: str, answer: Any) -> None:
        if path == "/v1/invoice_payments":
            for each in answer["data"]:
                each["payment"]["payment_intent"]["status"] = "processing"

    connect(database_url, sandbox, STRIPE_KEY)
    with odd(sandbox, debit) as stripe_url, running(database_url, stripe_url) as api:
        api.books.execute(POLICIES)
        mine = broke(api, "pm_card_chargeCustomerFail")
        assert mine.response("change", quantity=2, **NOW)["paymentAction"] is None


def test_a_payment_whose_state_is_not_known_has_its_link(api: Api) -> None:
    api.books.execute(POLICIES)
    mine = broke(api, "pm_card_threeDSecure2Required")
    control(api, "fault", status=500, path_prefix="/v1/invoice_payments", method="GET", times=3)
    action = mine.response("change", quantity=2, **NOW)["paymentAction"]
    assert action["reason"] == "requires_payment_method"
    assert action["url"].startswith("https://")


def test_a_change_that_waits_for_its_payment_says_until_when(api: Api) -> None:
    api.books.execute(POLICIES)
    mine = broke(api, "pm_card_threeDSecure2Required")
    waiting = {"paymentBehavior": "pending_if_incomplete", **NOW, "idempotencyKey": "once"}
    answer = mine.response("change", quantity=2, **waiting)
    assert answer["subscription"]["items"][0]["quantity"] == 1
    assert answer["subscription"]["status"] == "active"
    assert answer["paymentAction"]["reason"] == "requires_action"
    assert answer["paymentAction"]["expiresAt"] is not None
    again = mine.response("change", quantity=2, **waiting)
    assert again["paymentAction"] == answer["paymentAction"]
    api.stripe.v1.payment_methods.attach("pm_card_visa", {"customer": mine.customer})
    (card, *_) = api.stripe.v1.payment_methods.list({"customer": mine.customer}).data
    api.stripe.v1.invoices.pay(answer["paymentAction"]["invoiceId"], {"payment_method": card.id})
    paid = mine.response("change", quantity=2, **waiting)
    assert paid["paymentAction"] is None
    assert paid["subscription"]["items"][0]["quantity"] == 2


def test_a_change_can_be_made_only_if_it_is_paid(api: Api) -> None:
    api.books.execute(POLICIES)
    mine = broke(api, "pm_card_chargeCustomerFail")
    refused = mine.send("change", quantity=2, paymentBehavior="error_if_incomplete", **NOW)
    assert (refused.status_code, refused.json()["error"]) == (402, "PAYMENT_METHOD_DECLINED")
    assert mine.mirrored()["items"][0]["quantity"] == 1
