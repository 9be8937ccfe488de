"""A server killed while a key is set: the next start is clean, whatever had been done.

A proxy stands between Billhook and Stripe. It passes the n-th request on, so that it has its
effect, and kills the server before the answer comes.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from books import Books
from http_tokens import ADMIN_KEY, JWT_SECRET
from waiting import until

REQUESTS = 10
"""Account, endpoints, a new endpoint, account again, and six lists."""


class Proxy:
    """Passes requests on to Stripe; `fatal` is called after the `limit`-th came through."""

    def __init__(self, upstream: str) -> None:
        self.limit = 0
        self.seen = 0
        self.fatal: Callable[[], None] = lambda: None
        self._counting = threading.Lock()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                answer = httpx.request(
                    self.command,
                    f"{upstream}{self.path}",
                    content=body,
                    headers={
                        name: value
                        for name, value in self.headers.items()
                        if name.lower() not in ("host", "content-length", "accept-encoding")
                    },
                    timeout=60,
                )
                if proxy.count():
                    proxy.fatal()
                    return
                self.send_response(answer.status_code)
                for name in ("content-type", "date"):
                    self.send_header(name, answer.headers[name])
                self.send_header("content-length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_GET = do_POST = do_DELETE = handle_any

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def count(self) -> bool:
        with self._counting:
            self.seen += 1
            return self.seen == self.limit

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Server:
    """`billhook serve` on a port that stays the same over its lives."""

    def __init__(self, dsn: str, stripe: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = os.environ | {
            "DATABASE_URL": dsn,
            "JWT_SECRET": JWT_SECRET,
            "ACCESS_API_KEY": ADMIN_KEY,
            "STRIPE_API_BASE": stripe,
            "BILLHOOK_PUBLIC_URL": self.url,
            "BILLHOOK_LOG_LEVEL": "error",
        }
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "billhook.cli", "serve", "--port", str(self.port)],
            env=self._environment,
        )
        until(lambda: reachable(self.url), "the server starts")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return httpx.request(
            method,
            f"{self.url}/api/payments/stripe{path}",
            json=body,
            headers={"authorization": f"Bearer {ADMIN_KEY}"},
            timeout=60,
        )

    def connection(self) -> dict[str, Any]:
        found: dict[str, Any] = self.admin("GET", "/status").json()["connections"][0]
        return found


def reachable(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False


@contextmanager
def stage(database_url: str, sandbox: str) -> Iterator[tuple[Server, Proxy]]:
    proxy = Proxy(sandbox)
    server = Server(database_url, proxy.url)
    proxy.fatal = server.kill
    try:
        yield server, proxy
    finally:
        server.kill()
        proxy.close()


@pytest.mark.sampled(12)
@pytest.mark.parametrize("fatal_request", range(1, REQUESTS + 1))
def test_a_server_killed_while_a_key_is_set_starts_clean(
    database_url: str, sandbox: str, fatal_request: int
) -> None:
    key = f"sk_test_kill{os.getpid()}n{fatal_request}_1"
    stripe = httpx.Client(base_url=sandbox, auth=(key, ""), timeout=60)
    stripe.post("/v1/products", data={"name": "Tea"}).raise_for_status()
    with stage(database_url, sandbox) as (server, proxy):
        proxy.limit = fatal_request
        with suppress(httpx.TransportError):
            server.admin("PUT", "/test/config", {"secretKey": key})
        proxy.limit = 0
        if not reachable(server.url):
            server.start()
        assert server.admin("PUT", "/test/config", {"secretKey": key}).status_code == 200
        until(
            lambda: (
                server.admin("POST", "/test/sync").json()["results"][0]["connection"]["status"]
                == "connected"
            ),
            "the connection is in order",
        )
        # What the start finishes may come after the answers above.
        until(
            lambda: (
                [server.connection()["webhookEndpointId"]]
                == [each["id"] for each in stripe.get("/v1/webhook_endpoints").json()["data"]]
            ),
            "there is one endpoint, and it is known",
        )
        assert server.connection()["lastSyncStatus"] == "succeeded"
        (product,) = server.admin("GET", "/test/catalog/products").json()["products"]
        assert product["name"] == "Tea"
        # The secret that is stored is the endpoint's own: what Stripe signs is accepted.
        made = stripe.post("/v1/customers", data={"name": "Ada"}).json()["id"]
        books = Books(database_url)
        until(
            lambda: bool(
                books.rows(
                    "SELECT FROM payments.webhook_events WHERE object_id = $1"
                    " AND processing_status = 'processed'",
                    made,
                )
            ),
            "an event is accepted",
        )
    stripe.close()
