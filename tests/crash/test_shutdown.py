"""SIGTERM: whoever waits is answered with what is known, and what has begun is finished."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import process
from api import STRIPE_KEY, connect
from billhook.ledger import EventNotApplied
from billhook.postgres import Database
from books import Books, apply_one
from http_tokens import signature, token
from stripe_events import customer, event, payload
from visitor import Visitor
from waiting import until

PATH = "/api/webhooks/stripe/test"
_OPENED = """
    INSERT INTO payments.stripe_checkout_sessions
        (environment, mode, status, success_url, cancel_url, checkout_session_id)
    VALUES ('test', 'payment', 'open', 'https://shop.test', 'https://shop.test', 'cs_1')
    RETURNING id
"""
_APPLIES = """
    SELECT 1 FROM pg_stat_activity
    WHERE datname = current_database() AND state = 'active' AND query ~ 'save_batch'
      AND wait_event = 'PgSleep'
"""
# The page has read its row, and whether it ended is asked again and again.
_WAITS = """
    SELECT 1 FROM pg_stat_user_tables
    WHERE relid = 'payments.stripe_checkout_sessions'::regclass
      AND seq_scan + coalesce(idx_scan, 0) > 3
"""


def slow_trigger(books: Books, seconds: float) -> None:
    books.execute(
        f"""
        CREATE FUNCTION public.slow() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
        CREATE TRIGGER slow AFTER UPDATE ON payments.webhook_events
        FOR EACH ROW EXECUTE FUNCTION public.slow();
        """
    )


def sent(url: str) -> httpx.Response:
    body = payload(event("customer.created", customer()))
    headers = {"stripe-signature": signature(body)}
    return httpx.post(f"{url}{PATH}", content=body, headers=headers, timeout=60)


@pytest.fixture(params=[[], ["--workers", "2"]], ids=["one process", "workers"])
def running(
    request: pytest.FixtureRequest, direct_database_url: str, sandbox: str, tmp_path: Path
) -> Iterator[process.Process]:
    connect(direct_database_url, sandbox, STRIPE_KEY)
    settings = {"BILLHOOK_RECOVERY": "true"}
    with process.serving(
        direct_database_url, sandbox, tmp_path, *request.param, **settings
    ) as found:
        yield found


def test_a_server_that_stops_keeps_nobody_waiting(
    running: process.Process, direct_database_url: str
) -> None:
    books = Books(direct_database_url)
    slow_trigger(books, 0.5)
    row = books.row(_OPENED)
    visitor = Visitor(running.url)
    visitor.sign_in()
    with ThreadPoolExecutor(3) as clients, running.connection() as half:
        page = clients.submit(
            httpx.get,
            f"{running.url}/api/payments/stripe/test/checkout-sessions/{row['id']}",
            params={"wait": 30},
            headers={"authorization": f"Bearer {token()}"},
            timeout=60,
        )
        until(lambda: books.rows(_WAITS))
        with visitor.http.stream("GET", "/test/events/live") as live:
            lines = live.iter_lines()
            next(line for line in lines if line == "event: beat")
            stamp = f"t={int(time.time())},v1=00"
            half.sendall(
                f"POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n"
                f"Stripe-Signature: {stamp}\r\n\r\nhalf".encode()
            )
            webhook = clients.submit(sent, running.url)
            until(lambda: books.rows(_APPLIES))
            took = running.terminate()
            list(lines)
        assert (page.result().status_code, webhook.result().status_code) == (200, 200)
        assert page.result().json()["checkoutSession"]["status"] == "open"
        refused = half.recv(4096)
        assert refused == b"" or refused.split()[1] in (b"408", b"503")
    # The sandbox's account is also that of other tests, whose events may have been pulled.
    event_row = books.row(
        "SELECT processing_status AS status FROM payments.webhook_events WHERE object_id = 'cus_1'"
    )
    assert event_row["status"] == "processed"
    assert took < 10, running.log.read_text()
    assert "Traceback" not in running.log.read_text()


def test_a_worker_that_stops_finishes_the_event_in_hand(
    direct_database_url: str, sandbox: str, tmp_path: Path
) -> None:
    books = Books(direct_database_url)
    books.execute(
        """
        CREATE FUNCTION public.refuse() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'closed'; END $$;
        CREATE TRIGGER refuse AFTER UPDATE ON payments.webhook_events FOR EACH ROW
        WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION public.refuse();
        """
    )

    async def work(database: Database) -> None:
        refused = await apply_one(database, event("customer.created", customer()))
        assert isinstance(refused, EventNotApplied)

    books.run(work)
    books.execute("DROP TRIGGER refuse ON payments.webhook_events")
    slow_trigger(books, 0.2)
    books.execute("UPDATE billhook.event_retries SET next_at = now()")
    with process.working(direct_database_url, sandbox, tmp_path) as worker:
        until(lambda: books.rows(_APPLIES))
        took = worker.terminate()
    assert worker.code == 0
    assert "Traceback" not in worker.log.read_text()
    found = books.row("SELECT processing_status AS status FROM payments.webhook_events")
    assert found["status"] == "processed"
    assert took < 8, worker.log.read_text()  # not after a limit of ten seconds


@pytest.mark.full
def test_an_event_whose_trigger_takes_too_long_for_a_shutdown_is_refused_and_not_half_applied(
    direct_database_url: str, sandbox: str, tmp_path: Path
) -> None:
    books = Books(direct_database_url)
    slow_trigger(books, 25)
    with (
        process.serving(direct_database_url, sandbox, tmp_path) as running,
        ThreadPoolExecutor(1) as clients,
    ):
        webhook = clients.submit(sent, running.url)
        until(lambda: books.rows(_APPLIES))
        assert running.terminate() < 20
        assert webhook.result().status_code == 503
        assert webhook.result().json()["error"] == "INTERNAL_ERROR"
        assert "Traceback" not in running.log.read_text()
    assert books.rows("SELECT 1 FROM payments.webhook_events") == []
    assert books.rows("SELECT 1 FROM payments.customers") == []
