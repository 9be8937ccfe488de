"""A checkout that is repeated, overtaken, expired or failed: never two, never a dead link."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from api import opened
from billhook.access.auth import Caller
from billhook.checkout.sessions import create_checkout_session
from billhook.ledger import Ledger, decode
from billhook.models import CheckoutSession, CreateCheckoutSession, parse
from billhook.postgres import Database
from billhook.stripe.gateway import Fetched, Gateway
from http_tokens import ANONYMOUS_KEY, USER, token
from stripe_events import payload

PATH = "/v1/checkout/sessions"
GUEST = Caller("anonymous", "anon", claims={"role": "anon"})


@pytest.fixture
def control(sandbox: str) -> Iterator[Any]:
    """Calls the sandbox's controls, and takes faults and latency back at the end."""

    def act(name: str, **given: Any) -> None:
        httpx.post(f"{sandbox}/_sandbox/{name}", json=given, timeout=60).raise_for_status()

    yield act
    act("recover")
    act("latency", seconds=0, path_prefix=PATH)


def order(price: str, key: str, **more: Any) -> dict[str, Any]:
    return {
        "mode": "payment",
        "lineItems": [{"priceId": price}],
        "successUrl": "https://shop.example/done",
        "cancelUrl": "https://shop.example/cart",
        "idempotencyKey": key,
        **more,
    }


def rows(api: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.books.rows(
        "SELECT * FROM payments.stripe_checkout_sessions ORDER BY created_at"
    )
    return found


def events(api: Any, session_id: str, kind: str) -> list[dict[str, Any]]:
    listed = api.stripe.v1.events.list({"type": kind, "limit": 100}).data
    return [each.to_dict() for each in listed if each.data.object.id == session_id]


def deliver(api: Any, session_id: str, kind: str) -> None:
    (found,) = events(api, session_id, kind)
    assert api.deliver(found).status_code == 200


def test_many_at_once_with_one_key_get_one_session(api: Any, price: str, control: Any) -> None:
    control("latency", seconds=0.2, path_prefix=PATH)
    body = order(price, "at-once")
    with ThreadPoolExecutor(12) as many:
        answers = list(many.map(lambda _: opened(api.checkout(body, token())), range(12)))
    assert len({(each["id"], each["checkoutSessionId"], each["url"]) for each in answers}) == 1
    (row,) = rows(api)
    assert (row["status"], row["last_error"]) == ("open", None)


def test_an_expired_session_is_replaced_by_one_that_can_be_paid(api: Any, price: str) -> None:
    body = order(price, "expiring")
    first = opened(api.checkout(body, token()))
    api.stripe.v1.checkout.sessions.expire(first["checkoutSessionId"])
    deliver(api, first["checkoutSessionId"], "checkout.session.expired")
    assert rows(api)[0]["status"] == "expired"
    with ThreadPoolExecutor(4) as many:
        answers = list(many.map(lambda _: opened(api.checkout(body, token())), range(4)))
    assert {each["id"] for each in answers} == {first["id"]}
    (url,) = {each["url"] for each in answers}
    (replacement,) = {each["checkoutSessionId"] for each in answers}
    assert replacement != first["checkoutSessionId"]
    assert url != first["url"]
    # And once more: each replacement has a key of its own at Stripe.
    api.stripe.v1.checkout.sessions.expire(replacement)
    deliver(api, replacement, "checkout.session.expired")
    third = opened(api.checkout(body, token()))
    assert third["checkoutSessionId"] not in (replacement, first["checkoutSessionId"])
    assert (third["status"], len(rows(api))) == ("open", 1)


def outdate(api: Any) -> None:
    """As if a day had passed since the session was made."""
    api.books.execute(
        "UPDATE payments.stripe_checkout_sessions SET raw = raw || '{\"expires_at\": 1}'"
    )


def test_a_session_whose_time_is_up_is_replaced_before_its_event_arrives(
    api: Any, price: str
) -> None:
    body = order(price, "late event")
    first = opened(api.checkout(body, token()))
    api.stripe.v1.checkout.sessions.expire(first["checkoutSessionId"])
    outdate(api)
    second = opened(api.checkout(body, token()))
    assert second["checkoutSessionId"] != first["checkoutSessionId"]
    # The late event of the first session does not close the second.
    for event in events(api, first["checkoutSessionId"], "checkout.session.expired"):
        api.deliver(event)
    assert rows(api)[0]["status"] == "open"


@pytest.mark.parametrize("gone", ["expired", "unknown"])
@pytest.mark.parametrize("offer", [True, False], ids=["offer", "no offer"])
def test_a_retry_that_fails_does_not_return_the_dead_session(
    api: Any, price: str, control: Any, gone: str, *, offer: bool
) -> None:
    body = order(price, f"dead {gone} {offer}")
    if offer:
        api.admin("PUT", "/test/offers/launch", {"maxRedemptions": 1}).raise_for_status()
        body |= {"offer": "launch"}
    first = opened(api.checkout(body, token()))
    if gone == "expired":
        api.stripe.v1.checkout.sessions.expire(first["checkoutSessionId"])
    else:
        api.books.execute(
            "UPDATE payments.stripe_checkout_sessions SET checkout_session_id = 'cs_test_gone'"
        )
    outdate(api)
    control("fault", status=503, path_prefix=PATH, method="POST", times=3)
    failed = api.checkout(body, token())
    assert (failed.status_code, failed.json()["error"]) == (503, "UPSTREAM_FAILURE")
    (row,) = rows(api)
    assert (row["status"], row["url"]) == ("failed" if offer else "expired", None)
    assert row["last_error"] == failed.json()["message"]
    again = opened(api.checkout(body, token()))
    assert (again["id"], again["status"]) == (first["id"], "open")
    assert again["url"] != first["url"]


def test_a_session_paid_at_the_last_moment_is_not_sold_again(
    api: Any, price: str, control: Any
) -> None:
    body = order(price, "last moment")
    first = opened(api.checkout(body, token()))
    control("pay", session=first["checkoutSessionId"])
    outdate(api)
    again = opened(api.checkout(body, token()))
    assert (again["status"], again["paymentStatus"]) == ("completed", "paid")
    assert again["checkoutSessionId"] == first["checkoutSessionId"]


def test_a_completed_checkout_comes_back_as_it_is(api: Any, price: str, control: Any) -> None:
    body = order(price, "completed")
    first = opened(api.checkout(body, token()))
    control("pay", session=first["checkoutSessionId"])
    deliver(api, first["checkoutSessionId"], "checkout.session.completed")
    again = opened(api.checkout(body, token()))
    assert (again["id"], again["status"], again["paymentStatus"]) == (
        first["id"],
        "completed",
        "paid",
    )


def test_a_webhook_that_overtakes_our_own_note_is_not_undone(
    api: Any, price: str, control: Any, sandbox: str
) -> None:
    class Overtaken(Gateway):
        """By the time Stripe's answer is here, the buyer has paid and the event has come."""

        async def post(self, *args: Any, **kwargs: Any) -> Fetched:
            answer = await super().post(*args, **kwargs)
            session = answer.data

            def pay() -> dict[str, Any]:
                control("pay", session=session["id"])
                (found,) = events(api, session["id"], "checkout.session.completed")
                return found

            event = await asyncio.to_thread(pay)
            await Ledger(database_of[0]).record("test", decode(payload(event)))
            return answer

    database_of: list[Database] = []

    async def key(_: Any) -> str:
        return "sk_test_of_the_tests"

    async def work(database: Database) -> CheckoutSession:
        database_of.append(database)
        gateway = Overtaken(key, sandbox)
        wanted = parse(CreateCheckoutSession, order(price, "overtaken"))
        try:
            return await create_checkout_session(
                database, gateway, "test", wanted, GUEST, datetime.now(UTC)
            )
        finally:
            await gateway.close()

    session = api.books.run(work)
    assert (session.status, session.payment_status) == ("completed", "paid")
    (row,) = rows(api)
    assert row["checkout_session_id"] == session.checkout_session_id
    assert row["payment_intent_id"]
    assert row["metadata"] == {"insforge_checkout_mode": "payment"}


def test_a_failure_of_stripes_is_noted_and_the_retry_goes_through(
    api: Any, price: str, control: Any
) -> None:
    control("fault", status=503, path_prefix=PATH, method="POST", times=3)
    body = order(price, "retried")
    failed = api.checkout(body, token())
    assert (failed.status_code, failed.json()["error"]) == (503, "UPSTREAM_FAILURE")
    (row,) = rows(api)
    assert (row["status"], row["last_error"]) == ("failed", failed.json()["message"])
    again = opened(api.checkout(body, token()))
    assert (again["id"], again["status"], again["lastError"]) == (str(row["id"]), "open", None)


def test_an_answer_lost_on_its_way_makes_no_second_session(
    api: Any, price: str, control: Any
) -> None:
    control("fault", status=500, path_prefix=PATH, method="POST", times=3, after_effect=True)
    body = order(price, "lost answer", metadata={"order": "lost"})
    api.checkout(body, token())
    session = opened(api.checkout(body, token()))
    made = api.stripe.v1.checkout.sessions.list({"limit": 100}).data
    assert [each.id for each in made if each.metadata.to_dict().get("order") == "lost"] == [
        session["checkoutSessionId"]
    ]


@pytest.mark.parametrize("happened", [True, False])
def test_a_failure_that_stripe_repeats_does_not_block_the_key_for_a_day(
    api: Any, price: str, control: Any, *, happened: bool
) -> None:
    failing = {"status": 500, "stored": True, "after_effect": happened}
    at_once = {"Stripe-Should-Retry": "false"}  # so the SDK does not repeat it
    control("fault", path_prefix=PATH, method="POST", headers=at_once, **failing)
    body = order(price, f"stored {happened}", metadata={"order": f"stored {happened}"})
    assert api.checkout(body, token()).status_code == 500
    with ThreadPoolExecutor(4) as many:
        answers = list(many.map(lambda _: opened(api.checkout(body, token())), range(4)))
    (session_id,) = {each["checkoutSessionId"] for each in answers}
    made = api.stripe.v1.checkout.sessions.list({"limit": 100, "status": "open"}).data
    ours = [each for each in made if each.metadata.to_dict().get("order") == f"stored {happened}"]
    # Nobody knows the URL of the one that Stripe made when it failed.
    assert session_id in [each.id for each in ours]
    assert len(ours) == (2 if happened else 1)


def test_stripes_rate_limit_is_passed_on(api: Any, price: str, control: Any) -> None:
    body = {"error": {"type": "invalid_request_error", "message": "Too many requests."}}
    control("fault", status=429, path_prefix=PATH, method="POST", body=body)
    limited = api.checkout(order(price, "limited"), token())
    assert (limited.status_code, limited.json()["error"]) == (429, "RATE_LIMITED")


def test_a_row_that_insforge_wrote_answers_the_same_request(api: Any, price: str) -> None:
    body = order(price, "moved", metadata={"a": "b"}, subject={"type": "user", "id": USER})
    first = opened(api.checkout(body, token()))
    for hashed in ("NULL", "'a hash of another formula'"):
        api.books.execute(f"UPDATE payments.stripe_checkout_sessions SET request_hash = {hashed}")
        assert opened(api.checkout(body, token()))["url"] == first["url"]
        changed = api.checkout({**body, "metadata": {"a": "c"}}, token())
        assert changed.status_code == 409


@pytest.mark.parametrize(
    ("column", "request_hash"),
    [("metadata", "NULL"), ("line_items", "NULL"), ("line_items", "request_hash")],
)
def test_a_row_of_a_callers_own_making_is_another_checkout(
    api: Any, price: str, column: str, request_hash: str
) -> None:
    """Callers may insert rows with SQL of their own, with any JSON and any hash in them."""
    body = order(price, f"own {column} {request_hash}")
    opened(api.checkout(body, token()))
    deep = "[" * 2000 + "]" * 2000
    for json in ("[]", "null", "7", '"x"', '{"a": []}', '{"a": 1e400}', deep):
        value = json if column == "metadata" else f"[{json}]"
        api.books.execute(
            f"UPDATE payments.stripe_checkout_sessions SET request_hash = {request_hash},"
            f" {column} = '{value}'"
        )
        answer = api.checkout(body, token())
        assert answer.status_code == 409, answer.text
        assert answer.json()["error"] == "PAYMENT_CHECKOUT_ALREADY_EXISTS"


@pytest.mark.parametrize("key", ["größer", "line\nbreak", "emoji 🧾", "a\tb", "x" * 200, "é" * 200])
def test_any_idempotency_key_reaches_stripe(api: Any, price: str, key: str) -> None:
    first = opened(api.checkout(order(price, key), ANONYMOUS_KEY))
    assert opened(api.checkout(order(price, key), ANONYMOUS_KEY))["url"] == first["url"]


def test_a_webhook_that_commits_while_we_wait_for_its_row_is_not_undone(
    api: Any, price: str
) -> None:
    """The narrowest race: our note of the open session waits for the event's row lock."""
    first = opened(api.checkout(order(price, "race"), token()))
    api.books.execute(
        "UPDATE payments.stripe_checkout_sessions SET status = 'initialized', url = NULL,"
        " checkout_session_id = NULL"
    )

    async def work(database: Database) -> dict[str, Any]:
        async with asyncio.timeout(20), database.as_service() as event:
            await event.execute(
                "UPDATE payments.stripe_checkout_sessions SET status = 'completed',"
                " payment_status = 'paid', checkout_session_id = $1, provider_event_at = now()",
                first["checkoutSessionId"],
            )
            retry = asyncio.create_task(
                asyncio.to_thread(api.checkout, order(price, "race"), token())
            )
            waiting = False
            while not waiting:
                waiting = await event.fetchval(
                    "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)"
                )
        return opened(await retry)

    session = api.books.run(work)
    assert (session["status"], session["paymentStatus"]) == ("completed", "paid")
    row = rows(api)[0]
    assert (row["status"], row["url"]) == ("completed", None)
    assert row["provider_event_at"] is not None
