"""The server killed between any two messages that it and PostgreSQL exchange, and in their middle:
after the next start and the repeated request, all is as if nothing had happened.

`make nightly` tries every message of the long ways too.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import httpx
import pytest
import stripe
from doomed import Server, doomed

from api import connect
from billhook.kinds import TABLES
from billhook.postgres.migrate import migrate
from books import Books, final_state
from depth import by_depth
from http_tokens import ADMIN_KEY, SIGNING_SECRET, signature, token
from pages import app_sql
from recovering import FULFILL
from stripe_events import event, payload, session, subject

Asking = Callable[[httpx.Client], httpx.Response]

_accounts = itertools.count()

ADMIN = {"authorization": f"Bearer {ADMIN_KEY}"}
BASE = "/api/payments/stripe/test"


def moments(upto: int) -> Iterable[tuple[int, bool]]:
    """Each message lost, or lost after its half: all of them at night, else some, which are the
    same in each run."""
    every = list(itertools.product(range(1, upto + 1), (False, True)))
    most = min(len(every), by_depth(6, 16, len(every)))
    return sorted(random.Random(upto).sample(every, most))


@pytest.fixture
def server(database_url: str, sandbox: str) -> Iterator[Server]:
    with doomed(database_url, sandbox) as found:
        yield found


def deliver(http: httpx.Client, body: bytes) -> httpx.Response:
    headers = {"stripe-signature": signature(body, secret=SIGNING_SECRET)}
    return http.post("/api/webhooks/stripe/test", content=body, headers=headers)


def paid(order: int) -> dict[str, Any]:
    metadata = subject("team", f"team_{order}") | {
        "insforge_checkout_mode": "payment",
        "order_id": f"order_{order}",
    }
    bought = session(
        f"cs_{order}", payment_intent=f"pi_{order}", customer=f"cus_{order}", metadata=metadata
    )
    return event("checkout.session.completed", bought, id=f"evt_{order}")


ORDERS = """
    INSERT INTO orders SELECT 'order_' || n, 'test', 1500, 'eur' FROM generate_series(0, 200) n
"""
FULFILLED = """
    SELECT (SELECT status FROM orders WHERE id = $1) AS status,
        (SELECT count(*) FROM fulfillments WHERE event_id = $2) AS times
"""


def test_an_order_is_fulfilled_once_wherever_its_event_is_interrupted(
    server: Server, empty_database_url: str
) -> None:
    server.books.execute("".join(app_sql()) + FULFILL)
    server.books.execute(ORDERS)

    def event_of(order: int) -> Asking:
        return lambda http: deliver(http, payload(paid(order)))

    tried = 1
    for order, (at, half) in enumerate(moments(server.messages_of(event_of(0))), start=1):
        assert server.interrupted(event_of(order), at, half=half).status_code == 200
        tried += 1
        assert server.books.row(FULFILLED, f"order_{order}", f"evt_{order}") == {
            "status": "paid",
            "times": 1,
        }, (at, half)
    assert tried > 5
    asyncio.run(migrate(empty_database_url))
    undisturbed = Books(empty_database_url)
    undisturbed.apply(*(paid(order) for order in range(tried)))
    assert final_state(server.books) == final_state(undisturbed)


TRIGGERS = """
    SELECT tgname, tgenabled FROM pg_trigger
    WHERE tgrelid = 'payments.webhook_events'::regclass ORDER BY 1
"""


def test_a_failure_is_kept_and_triggers_stay_as_they_were_wherever_it_is_interrupted(
    server: Server,
) -> None:
    """This trigger refuses even `failed`, and is passed by for that."""
    server.books.execute("".join(app_sql()) + FULFILL)
    server.books.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'no stock left'; END $$;
        CREATE TRIGGER refuse AFTER INSERT OR UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION refuse()""")
    triggers = server.books.rows(TRIGGERS)

    def event_of(order: int) -> Asking:
        return lambda http: deliver(http, payload(paid(order)))

    tried = 1
    messages = server.messages_of(event_of(0), fails=True)
    for order, (at, half) in enumerate(moments(messages), start=1):
        assert server.interrupted(event_of(order), at, half=half).status_code == 500
        tried += 1
        assert server.books.rows(TRIGGERS) == triggers, (at, half)
    assert tried > 5
    failed = server.books.row(
        "SELECT count(*) AS n FROM payments.webhook_events WHERE last_error = 'no stock left'"
    )
    assert failed == {"n": tried}
    server.books.execute("DROP FUNCTION refuse CASCADE")
    server.books.apply(*(paid(order) for order in range(tried)))
    once = server.books.rows("SELECT count(*) AS n FROM fulfillments GROUP BY event_id")
    assert once == [{"n": 1}] * tried


@pytest.fixture
def account(database_url: str, sandbox: str) -> stripe.StripeClient:
    """An account of the test's own, connected before."""
    key = f"sk_test_kill_anywhere{os.getpid()}n{next(_accounts)}_1"
    connect(database_url, sandbox, key)
    return stripe.StripeClient(key, base_addresses={"api": sandbox})


def test_a_checkout_is_opened_once_wherever_it_is_interrupted(
    server: Server, account: stripe.StripeClient
) -> None:
    product = account.v1.products.create({"name": "Mug"})
    price = account.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 1500}
    )

    def order(number: int) -> Asking:
        body = {
            "mode": "payment",
            "lineItems": [{"priceId": price.id}],
            "successUrl": "https://shop.example/done",
            "cancelUrl": "https://shop.example/cart",
            "idempotencyKey": f"order {number}",
        }
        headers = {"authorization": f"Bearer {token()}"}
        return lambda http: http.post(f"{BASE}/checkout-sessions", json=body, headers=headers)

    opened = 1
    for number, (at, half) in enumerate(moments(server.messages_of(order(0))), start=1):
        answer = server.interrupted(order(number), at, half=half)
        assert answer.status_code == 201, (at, half, answer.text)
        opened += 1
    assert opened > 5
    at_stripe = {each.id for each in account.v1.checkout.sessions.list().auto_paging_iter()}
    rows = server.books.rows(
        "SELECT checkout_session_id AS id, status FROM payments.stripe_checkout_sessions"
    )
    assert {row["id"] for row in rows} == at_stripe
    assert len(rows) == len(at_stripe) == opened
    assert {row["status"] for row in rows} == {"open"}


LAUNCH = """
    INSERT INTO payments.offers (environment, name, options, max_redemptions) VALUES ('test',
        'launch', '{"trialDays": 14, "trialOncePerSubject": true, "oneSubscription": true}', 1000)
"""


def test_a_team_has_one_checkout_with_a_trial_wherever_it_is_interrupted(
    server: Server, account: stripe.StripeClient
) -> None:
    server.books.execute(LAUNCH)
    given: Any = {
        "currency": "eur",
        "unit_amount": 1500,
        "recurring": {"interval": "month"},
        "product_data": {"name": "Pro"},
    }
    plan = account.v1.prices.create(given).id

    def order(number: int, key: str = "first") -> Asking:
        body = {
            "mode": "subscription",
            "lineItems": [{"priceId": plan}],
            "subject": {"type": "team", "id": str(number)},
            "offer": "launch",
            "successUrl": "https://shop.example/done",
            "cancelUrl": "https://shop.example/cart",
            "idempotencyKey": key,
        }
        headers = {"authorization": f"Bearer {token()}"}
        return lambda http: http.post(f"{BASE}/checkout-sessions", json=body, headers=headers)

    opened = 1
    for number, (at, half) in enumerate(moments(server.messages_of(order(0))), start=1):
        answer = server.interrupted(order(number), at, half=half)
        assert answer.status_code == 201, (at, half, answer.text)
        assert answer.json()["checkoutSession"]["trialGranted"] is True
        opened += 1
    assert opened > 5
    listed = account.v1.checkout.sessions.list({"status": "open"}).auto_paging_iter()
    at_stripe = sorted(each.id for each in listed if each.mode == "subscription")
    rows = server.books.rows(
        """SELECT checkout_session_id AS id FROM payments.stripe_checkout_sessions
        WHERE status = 'open' AND trial_granted AND offer_options IS NOT NULL"""
    )
    assert sorted(row["id"] for row in rows) == at_stripe
    assert len(rows) == opened
    assert server.books.row("SELECT redemptions FROM payments.offers") == {"redemptions": opened}
    server.start()
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for number in range(opened):
            second = order(number, "second")(http)
            assert second.status_code == 409, second.text
            assert second.json()["existing"]["checkoutSessionId"] in at_stripe


MIRROR = f"""
    TRUNCATE {", ".join(f"payments.{table}" for table in TABLES)},
        payments.customer_mappings, billhook.customer_claims, billhook.sync_ranges, billhook.syncs
"""


def test_a_sync_ends_the_same_wherever_it_is_interrupted(
    server: Server, account: stripe.StripeClient, sandbox: str
) -> None:
    httpx.post(
        f"{sandbox}/_sandbox/seed",
        json={
            "key": account._requestor.api_key,
            "products": 5,
            "prices": 5,
            "customers": 120,
            "subscriptions": 5,
        },
        timeout=60,
    ).raise_for_status()

    def sync(http: httpx.Client) -> httpx.Response:
        return http.post(f"{BASE}/sync", headers=ADMIN)

    messages = server.messages_of(sync)
    undisturbed = mirror(server.books)
    assert len(undisturbed["customers"]) == 120
    for at, half in moments(messages):
        server.books.execute(MIRROR)
        (result,) = server.interrupted(sync, at, half=half).json()["results"]
        assert result["connection"]["lastSyncStatus"] == "succeeded", (at, half)
        assert mirror(server.books) == undisturbed, (at, half)


def mirror(books: Books) -> dict[str, list[str]]:
    """The rows, whenever they were fetched."""
    return {
        table: [re.sub(r'"provider_event_at":"[^"]*"', "", row) for row in rows]
        for table, rows in final_state(books).items()
    }


def test_a_replay_fulfills_once_wherever_it_is_interrupted(server: Server) -> None:
    """The warehouse was closed when the event came; then the trigger is fixed."""
    server.books.execute("".join(app_sql()) + FULFILL)
    server.books.execute(ORDERS)

    def replay_of(order: int) -> Asking:
        server.books.execute("INSERT INTO broken VALUES ('yes')")
        (failed,) = server.books.apply(paid(order))
        assert "the warehouse is closed" in str(failed)
        server.books.execute("DELETE FROM broken")
        return lambda http: http.post(f"{BASE}/webhook-events/evt_{order}/replay", headers=ADMIN)

    for order, (at, half) in enumerate(moments(server.messages_of(replay_of(0))), start=1):
        answer = server.interrupted(replay_of(order), at, half=half)
        assert answer.status_code == 200, (at, half, answer.text)
        assert server.books.row(FULFILLED, f"order_{order}", f"evt_{order}") == {
            "status": "paid",
            "times": 1,
        }, (at, half)


IMPORTED = """
    TRUNCATE payments.transactions, payments.customer_mappings, billhook.customer_claims,
        billhook.payment_refs, billhook.payment_sources, billhook.payment_refunds,
        billhook.fetched_payments;
    DELETE FROM billhook.imports
"""


def test_an_import_ends_the_same_wherever_it_is_interrupted(
    server: Server, account: stripe.StripeClient, sandbox: str
) -> None:
    seed = {"key": account._requestor.api_key, "payments": 230}
    httpx.post(f"{sandbox}/_sandbox/seed", json=seed, timeout=60).raise_for_status()

    def imported(http: httpx.Client) -> httpx.Response:
        answer = http.post(f"{BASE}/import", headers=ADMIN).raise_for_status()
        while answer.json()["status"] != "finished":
            answer = http.get(f"{BASE}/import", headers=ADMIN).raise_for_status()
        return answer

    messages = server.messages_of(imported)
    undisturbed = mirror(server.books)
    assert len(undisturbed["transactions"]) == 230
    for at, half in moments(messages):
        server.books.execute(IMPORTED)
        lists = server.interrupted(imported, at, half=half).json()["lists"]
        assert {each["name"]: each["read"] for each in lists}["charges"] == 230, (at, half)
        assert mirror(server.books) == undisturbed, (at, half)
