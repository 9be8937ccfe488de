"""Outages: fail-over, a full disk, Stripe at its worst, a wrong clock. What was acknowledged is
there, nothing is doubled, and nobody has to lend a hand."""

from __future__ import annotations

import asyncio
import itertools
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from doomed import Link

from api import Api, api, serving
from billhook.errors import BillhookError
from billhook.postgres.embedded import EmbeddedPostgres, start
from billhook.postgres.migrate import migrate
from books import Books
from http_tokens import signature, token
from recovering import FULFILL, Station
from stripe_events import event, payload, session, subject

__all__ = ["api"]

MINE = subject("user", "u1") | {"insforge_checkout_mode": "payment"}
ORDER = {
    "mode": "payment",
    "successUrl": "https://shop.example/done",
    "cancelUrl": "https://shop.example/cart",
}


def purchases(count: int) -> Iterator[tuple[str, bytes]]:
    """The events that end checkouts, with their ids."""
    for number in range(count):
        names = {"id": f"cs_{number}", "payment_intent": f"pi_{number}", "metadata": MINE}
        ended = event("checkout.session.completed", session() | names)
        yield ended["id"], payload(ended)


def deliver(http: httpx.Client, body: bytes) -> httpx.Response:
    return http.post(
        "/api/webhooks/stripe/test", content=body, headers={"stripe-signature": signature(body)}
    )


@dataclass
class Pair:
    """A primary and a standby that has all that the primary acknowledged."""

    primary: EmbeddedPostgres
    standby: EmbeddedPostgres
    link: Link

    def lose_the_primary(self) -> None:
        run(self.primary, "pg_ctl", "stop", "-D", str(self.primary.data), "-m", "immediate", "-w")

    def promote(self) -> None:
        run(self.standby, "pg_ctl", "promote", "-D", str(self.standby.data), "-w")


def run(server: EmbeddedPostgres, program: str, *arguments: str) -> None:
    owner = server.data.stat()
    as_owner = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    subprocess.run(
        [server.bin / program, *arguments],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        **(as_owner if owner.st_uid != 0 else {}),
    )


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Synchronous replication: a commit that was acknowledged is on both."""
    with ExitStack() as stack:
        # Not pytest's folder: each new run of pytest locks others out of it, PostgreSQL too.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="billhook-pair-")))
        settings = {"fsync": "off", "synchronous_commit": "remote_apply"}
        primary = start(folder / "primary", settings=settings)
        stack.callback(primary.stop)
        dsn = primary.create_database("app")
        asyncio.run(migrate(dsn))
        copy = folder / "standby"
        copy.mkdir(mode=0o700)
        owner = primary.data.stat()
        os.chown(copy, owner.st_uid, owner.st_gid)
        where = ("-h", str(primary.socket), "-U", "postgres")
        run(primary, "pg_basebackup", "-D", str(copy), "-R", "-c", "fast", *where)
        standby = start(copy, settings={"fsync": "off"})
        stack.callback(standby.stop)
        books = Books(dsn)
        books.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        books.execute("SELECT pg_reload_conf()")
        link = Link(dsn)
        stack.callback(link.close)
        yield Pair(primary, standby, link)


@pytest.mark.full
def test_no_acknowledged_event_is_lost_or_doubled_when_postgresql_fails_over(
    pair: Pair, sandbox: str
) -> None:
    Books(pair.primary.dsn("app")).execute(FULFILL)
    waiting = list(purchases(300))
    acknowledged: set[str] = set()
    refused: list[int] = []
    enough = threading.Event()
    lock = threading.Lock()

    def send(url: str) -> None:
        """As Stripe does: again, until it is taken; and now and then although it was."""
        with httpx.Client(base_url=url, timeout=30) as http:
            while True:
                with lock:
                    if not waiting:
                        return
                    name, body = waiting.pop(0)
                answer = deliver(http, body)
                with lock:
                    if answer.status_code == 200:
                        acknowledged.add(name)
                    else:
                        refused.append(answer.status_code)
                        waiting.append((name, body))
                    if len(acknowledged) > 100:
                        enough.set()

    with serving(pair.link.dsn, sandbox) as api:
        senders = [threading.Thread(target=send, args=(api.url,)) for _ in range(4)]
        for each in senders:
            each.start()
        assert enough.wait(60)
        pair.lose_the_primary()
        with lock:
            before = set(acknowledged)
        pair.link.lead_to(pair.standby.dsn("app"))
        # The address is moved before the standby is a primary: it only reads.
        asked = deliver(api.http, next(purchases(1))[1])
        assert asked.status_code == 503
        assert asked.headers["retry-after"]
        pair.promote()
        for each in senders:
            each.join()
        books = Books(pair.standby.dsn("app"))
        recorded = books.rows("SELECT provider_event_id AS id FROM payments.webhook_events")
        fulfilled = books.rows("SELECT event_id AS id FROM fulfillments")
        assert len(before) > 100
        assert set(refused) == {503}
        assert sorted(row["id"] for row in recorded) == sorted(acknowledged)
        assert sorted(row["id"] for row in fulfilled) == sorted(acknowledged)
        assert len(acknowledged) == 300


def test_a_full_disk_acknowledges_nothing_and_recovers_when_there_is_room(api: Api) -> None:
    api.books.execute(FULFILL)
    # What a trigger of the app raises would be its own matter: this stands for our own INSERT.
    api.books.execute("""
        CREATE FUNCTION billhook.full_disk() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            RAISE EXCEPTION 'could not extend file: No space left on device'
                USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER full_disk BEFORE INSERT ON payments.webhook_events
            FOR EACH ROW EXECUTE FUNCTION billhook.full_disk();
    """)
    (_, body), (_, other) = purchases(2)
    for each in (body, other, body):
        answer = deliver(api.http, each)
        assert (answer.status_code, answer.json()["statusCode"]) == (503, 503)
        assert answer.headers["retry-after"]
    api.books.execute("DROP TRIGGER full_disk ON payments.webhook_events")
    assert [deliver(api.http, each).status_code for each in (body, other, body)] == [200] * 3
    assert api.books.row("SELECT count(*) AS n FROM fulfillments") == {"n": 2}


@contextmanager
def trouble(api: Api, *faults: dict[str, Any]) -> Iterator[None]:
    for each in faults:
        fault = {"times": 100_000, **each}
        httpx.post(f"{api.stripe_url}/_sandbox/fault", json=fault, timeout=60).raise_for_status()
    try:
        yield
    finally:
        httpx.post(f"{api.stripe_url}/_sandbox/recover", json={}, timeout=60).raise_for_status()


def test_every_checkout_is_made_once_though_a_third_of_stripes_answers_fail(api: Api) -> None:
    price = api.stripe.v1.prices.create(
        {"currency": "eur", "unit_amount": 900, "product_data": {"name": "Tea"}}
    )
    order = ORDER | {"lineItems": [{"priceId": price.id, "quantity": 1}]}
    made: dict[str, str] = {}
    tries = itertools.count()
    with trouble(
        api,
        {"status": 500, "share": 0.12, "method": "POST"},
        {"status": 503, "share": 0.12, "method": "POST", "after_effect": True},
        {"cut": True, "share": 0.12, "method": "POST", "after_effect": True},
    ):
        for number in range(25):
            key = f"order_{number}"
            while key not in made:
                next(tries)
                answer = api.checkout(order | {"idempotencyKey": key}, bearer=token())
                if answer.is_success:
                    made[key] = answer.json()["checkoutSession"]["checkoutSessionId"]
                else:
                    assert answer.status_code in (409, 502, 503), answer.text
    rows = api.books.rows("SELECT id FROM payments.stripe_checkout_sessions")
    assert len(rows) == 25
    ours = {str(row["id"]) for row in rows}  # the account is other tests', too
    at_stripe = api.stripe.v1.checkout.sessions.list({"limit": 100}).data
    of_ours = [each.id for each in at_stripe if each.client_reference_id in ours]
    assert sorted(made.values()) == sorted(of_ours)


def test_a_clock_ten_minutes_off_loses_no_order(
    database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    station = Station(database_url, sandbox)
    station.bought(3)
    (_, body), *_ = purchases(1)
    for off in (600, -600):
        wrong = SimpleNamespace(time=lambda off=off: time.time() + off)
        monkeypatch.setattr("billhook.http.webhooks.time", wrong)
        with serving(database_url, sandbox) as api:
            refused = deliver(api.http, body)
            assert refused.status_code == 400
            assert "correct this server's clock" in refused.json()["nextActions"]
    # Nothing of it was taken; the puller, which believes Stripe's clock, brings the orders.
    assert station.statuses() == []
    station.pull()
    station.pull()
    assert station.fulfilled() == 3


@pytest.mark.full
def test_paid_orders_are_fulfilled_and_mirrored_while_a_third_of_stripes_answers_fail(
    database_url: str, sandbox: str
) -> None:
    station = Station(database_url, sandbox)
    station.bought(5)
    station.control("fault", status=500, share=0.3, times=100_000)
    try:
        for _ in range(10):  # what fails in spite of its retries, the next turn does
            with suppress(BillhookError):
                station.pull()
        assert station.fulfilled() == 5
        for _ in range(10):  # it tells what failed, and goes on there
            with suppress(AssertionError):
                station.sync()
                break
    finally:
        station.control("recover")
    assert station.books.row("SELECT count(*) AS n FROM payments.stripe_products") == {"n": 1}
    assert station.books.row("SELECT count(*) AS n FROM payments.transactions") == {"n": 5}
