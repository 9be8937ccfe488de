"""The whole API in a thread, on a real PostgreSQL and a real Stripe sandbox."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from itertools import count
from typing import Any

import httpx
import pytest
import stripe
import uvicorn
from pydantic import SecretStr

from billhook.access.secrets import SecretStore, stripe_key_name
from billhook.account.connections import Connections
from billhook.app import create_app
from billhook.http.server import OPTIONS
from billhook.postgres import Database
from billhook.settings import Settings
from billhook.stripe.gateway import Fetched
from books import Books
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, JWT_SECRET, SIGNING_SECRET, signature
from stripe_events import payload

STRIPE_KEY = "sk_test_of_the_tests"
# Behind a pooler there are several, which take requests from one socket in turn.
SERVERS = 2 if os.environ.get("BILLHOOK_TEST_POOLER") == "pgbouncer" else 1


@dataclass
class Api:
    """A running Billhook, and the hands that tests need."""

    url: str
    books: Books
    stripe: stripe.StripeClient
    stripe_url: str
    http: httpx.Client = field(repr=False)

    def post(self, path: str, body: Any, bearer: str | None = None) -> httpx.Response:
        headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
        return self.http.post(path, json=body, headers=headers)

    def admin(self, method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        """A request with the admin key to a path below /api/payments/stripe."""
        return self.http.request(
            method,
            f"/api/payments/stripe{path}",
            json=body,
            headers={"Authorization": f"Bearer {ADMIN_KEY}"},
            **more,
        )

    def checkout(self, body: dict[str, Any], bearer: str | None = None) -> httpx.Response:
        return self.post("/api/payments/stripe/test/checkout-sessions", body, bearer)

    def deliver(self, event: dict[str, Any] | bytes, **more: Any) -> httpx.Response:
        body = event if isinstance(event, bytes) else payload(event)
        environment = more.pop("environment", "test")
        header = signature(body, **more)
        return self.http.post(
            f"/api/webhooks/stripe/{environment}",
            content=body,
            headers={"stripe-signature": header} if header else {},
        )


class _Server(uvicorn.Server):
    """Begins to end at once, and ends when it can: uvicorn waits a tenth of a second for each."""

    async def main_loop(self) -> None:
        for tick in count():
            if await self.on_tick(tick // 10):
                return
            await asyncio.sleep(0.01)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for each in (*self.servers, *(sockets or ())):
            each.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        while self.server_state.connections or self.server_state.tasks:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        await self.lifespan.shutdown()


@contextmanager
def serving(
    database_url: str,
    sandbox: str,
    *,
    reachable: bool = False,
    send_buffer: int | None = None,
    **overrides: Any,
) -> Iterator[Api]:
    """A running Billhook with these settings on top of the usual ones; `reachable`: its public
    address is its own, so that the sandbox sends events to it; `send_buffer`: bytes of an answer
    that the kernel takes at once."""
    listener = socket.create_server(("127.0.0.1", 0))
    if send_buffer is not None:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "jwt_secret": SecretStr(JWT_SECRET),
        "access_api_key": SecretStr(ADMIN_KEY),
        "access_anon_key": SecretStr(ANONYMOUS_KEY),
        "stripe_test_webhook_secret": SecretStr(SIGNING_SECRET),
        "stripe_api_base": sandbox,
        "recovery": False,  # only where a test is about it
        "stripe_list_rate": 0,
        "stripe_test_rate": 0,
        "public_url": url if reachable else None,
    }
    settings = Settings(**values | overrides, _env_file=None)
    servers, threads = [], []
    for _ in range(SERVERS):
        server = _Server(uvicorn.Config(create_app(settings), **OPTIONS))
        shared = {"sockets": [listener.dup()]}
        threads.append(threading.Thread(target=server.run, kwargs=shared, daemon=True))
        servers.append(server)
        threads[-1].start()
    client = stripe.StripeClient(STRIPE_KEY, base_addresses={"api": sandbox})
    try:
        with httpx.Client(base_url=url, timeout=60) as http:
            http.get("/health").raise_for_status()  # the socket listens: this waits for the first
            while not all(server.started for server in servers):
                assert all(thread.is_alive() for thread in threads)
                time.sleep(0.01)
            yield Api(url, Books(database_url), client, sandbox, http)
    finally:
        listener.close()
        for server in servers:
            server.should_exit = True
        for thread in threads:
            thread.join(10)


@pytest.fixture
def api(database_url: str, sandbox: str) -> Iterator[Api]:
    """Billhook with a key that was set before: nothing is synced on the way up."""
    connect(database_url, sandbox, STRIPE_KEY)
    with serving(database_url, sandbox) as found:
        yield found


@pytest.fixture(scope="module")
def shared_api(shared_database_url: str, sandbox: str) -> Iterator[Api]:
    """The same, for all tests of a module that only read, or are refused."""
    connect(shared_database_url, sandbox, STRIPE_KEY)
    with serving(shared_database_url, sandbox) as found:
        yield found


def connect(database_url: str, sandbox: str, key: str) -> None:
    """Store `key` as if it had been set some time ago."""
    settings = Settings(
        database_url=SecretStr(database_url), jwt_secret=SecretStr(JWT_SECRET), _env_file=None
    )
    answer = httpx.get(f"{sandbox}/v1/account", auth=(key, ""), timeout=60)
    at = int(parsedate_to_datetime(answer.headers["date"]).timestamp())
    account = Fetched(answer.json(), at)

    async def work(database: Database) -> None:
        secrets = SecretStore(database, settings)
        await secrets.set(stripe_key_name("test"), key)
        await Connections(database, secrets).connected("test", account)

    books = Books(database_url)
    books.run(work)
    books.close()


def opened(answer: httpx.Response) -> dict[str, Any]:
    """The checkout session of a response that must have one."""
    assert answer.status_code == 201, answer.text
    session: dict[str, Any] = answer.json()["checkoutSession"]
    return session


def metered(api: Api) -> dict[str, str]:
    """The `recurring` of a monthly price that bills the usage of a meter of its own."""
    made = api.stripe.v1.billing.meters.create(
        {
            "display_name": "Calls",
            "event_name": f"calls_{uuid.uuid4().hex}",
            "default_aggregation": {"formula": "sum"},
        }
    )
    return {"interval": "month", "usage_type": "metered", "meter": made.id}


@pytest.fixture
def price(api: Api) -> str:
    """A mug for 15 EUR."""
    product = api.stripe.v1.products.create({"name": "Mug"})
    made = api.stripe.v1.prices.create(
        {"product": product.id, "currency": "eur", "unit_amount": 1500}
    )
    return str(made.id)
