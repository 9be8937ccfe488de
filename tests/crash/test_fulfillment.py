"""A paid order is fulfilled exactly once, whatever repeats, arrives out of order or crashes.

The servers are processes of their own that can be killed. Their listening socket is ours: a
delivery waits in its queue until one of them takes it, as at a load balancer.
"""

from __future__ import annotations

import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from books import Books
from depth import by_depth
from http_tokens import JWT_SECRET, SIGNING_SECRET, signature
from pages import app_sql
from stripe_events import event, payload, session, subject, subscription

PURCHASES = by_depth(200, 1000, 1000)
KILLS = by_depth(2, 10, 10)
SENDERS = 8

TEAMS = 100

# The triggers of docs/how-to/fulfill-orders.md, and one that counts how often an order is
# fulfilled.
APP = f"""
    {"".join(app_sql())}
    INSERT INTO orders SELECT 'order_' || n, 'test', 1500, 'eur'
    FROM generate_series(1, {PURCHASES}) n;
    CREATE TABLE fulfillments (order_id text NOT NULL);
    CREATE FUNCTION count_fulfillment() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = public AS $$
    BEGIN
        INSERT INTO fulfillments VALUES (NEW.payload #>> '{{data,object,metadata,order_id}}');
        RETURN NULL;
    END $$;
    CREATE TRIGGER count_fulfillment AFTER INSERT OR UPDATE ON payments.webhook_events
    FOR EACH ROW WHEN (NEW.processing_status = 'processed'
        AND NEW.event_type = 'checkout.session.completed')
    EXECUTE FUNCTION count_fulfillment();
"""


class Servers:
    """`billhook serve`'s application in two processes, each with its recovery worker; one of them
    dies and comes back."""

    def __init__(self, dsn: str) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._environment = os.environ | {
            "DATABASE_URL": dsn,
            "JWT_SECRET": JWT_SECRET,
            "STRIPE_TEST_WEBHOOK_SECRET": SIGNING_SECRET,
            "BILLHOOK_LOG_LEVEL": "error",
        }
        self._processes: list[subprocess.Popen[bytes]] = []
        self.start()
        self.start()

    def start(self) -> None:
        fd = self._listener.fileno()
        self._processes.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "uvicorn", "billhook.app:from_environment"),
                    *("--factory", "--fd", str(fd), "--log-level", "error"),
                ],
                pass_fds=[fd],
                env=self._environment,
            )
        )

    def kill(self) -> None:
        """The one that runs longest."""
        process = self._processes.pop(0)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        while self._processes:
            self.kill()
        self._listener.close()


@pytest.fixture
def servers(database_url: str) -> Iterator[Servers]:
    Books(database_url).execute(APP)
    running = Servers(database_url)
    yield running
    running.close()


def deliveries(seed: int) -> queue.SimpleQueue[bytes]:
    """Each purchase's event one to three times, shuffled."""
    chance = random.Random(seed)
    bodies: list[bytes] = []
    for n in range(1, PURCHASES + 1):
        metadata = subject("team", f"team_{n}") | {
            "insforge_checkout_mode": "payment",
            "order_id": f"order_{n}",
        }
        bought = session(
            f"cs_{n}", payment_intent=f"pi_{n}", customer=f"cus_{n}", metadata=metadata
        )
        bodies += [payload(event("checkout.session.completed", bought, at=n))] * chance.randint(
            1, 3
        )
    for team in range(TEAMS):
        for at, status in enumerate(("incomplete", "active", "canceled" if team % 2 else "active")):
            changed = event("customer.subscription.updated", subscribed(team, status), at=at)
            bodies += [payload(changed)] * chance.randint(1, 3)
    chance.shuffle(bodies)
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    for body in bodies:
        waiting.put(body)
    return waiting


def subscribed(team: int, status: str) -> dict[str, Any]:
    return subscription(
        f"sub_{team}",
        status=status,
        metadata=subject("team", f"team_{team}"),
        items={
            "data": [
                {
                    "id": f"si_{team}",
                    "price": {"id": "price_1", "product": "prod_1"},
                    "current_period_end": 1_790_000_000,
                }
            ]
        },
    )


def send_all(servers: Servers, waiting: queue.SimpleQueue[bytes], on_answer: Any) -> None:
    """Eight senders, each sending a delivery again until it is answered 2xx."""

    def sender() -> None:
        with httpx.Client(base_url=servers.url, timeout=60) as http:
            while True:
                try:
                    body = waiting.get_nowait()
                except queue.Empty:
                    return
                while not delivered(http, body):
                    pass
                on_answer()

    senders = [threading.Thread(target=sender) for _ in range(SENDERS)]
    for each in senders:
        each.start()
    for each in senders:
        each.join()


def delivered(http: httpx.Client, body: bytes) -> bool:
    headers = {"stripe-signature": signature(body)}
    try:
        answer = http.post("/api/webhooks/stripe/test", content=body, headers=headers)
    except httpx.TransportError:
        return False  # the server died under it
    return answer.is_success


def assert_each_order_fulfilled_once(books: Books) -> None:
    orders = books.rows("SELECT status, count(*) AS n FROM orders GROUP BY 1")
    assert orders == [{"status": "paid", "n": PURCHASES}]
    assert books.row(
        "SELECT count(*) AS n, count(DISTINCT order_id) AS orders FROM fulfillments"
    ) == {"n": PURCHASES, "orders": PURCHASES}
    # Every other team cancelled at last, whichever of its events came last.
    active = "SELECT subject_id FROM payments.stripe_subscriptions WHERE status = 'active'"
    teams = {each["subject_id"] for each in books.rows(active)}
    assert teams == {f"team_{n}" for n in range(0, TEAMS, 2)}
    assert books.rows("SELECT * FROM unmatched_payments") == []
    assert books.row(
        "SELECT count(*) AS n, sum(amount)::bigint AS total FROM payments.transactions"
        " WHERE status = 'succeeded'"
    ) == {"n": PURCHASES, "total": PURCHASES * 1500}


@pytest.mark.full
def test_repeated_and_shuffled_events_fulfill_each_order_once(
    servers: Servers, database_url: str
) -> None:
    send_all(servers, deliveries(seed=1), on_answer=lambda: None)
    assert_each_order_fulfilled_once(Books(database_url))


def test_kills_in_the_middle_of_the_rush_lose_and_double_nothing(
    servers: Servers, database_url: str
) -> None:
    answered = 0
    kills = 0
    counting = threading.Lock()

    def on_answer() -> None:
        nonlocal answered, kills
        with counting:
            answered += 1
            if answered % 120 == 0 and kills < KILLS:
                kills += 1
                servers.kill()
                servers.start()

    send_all(servers, deliveries(seed=2), on_answer)
    assert kills == KILLS
    assert_each_order_fulfilled_once(Books(database_url))
