"""Stripe is away, slow or talks rubbish: setting a key says so and changes nothing."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from api import serving
from billhook.stripe.gateway import Gateway

KEY = "sk_test_away_1"
ACCOUNT = b'{"id": "acct_1", "object": "account"'


@contextmanager
def nobody() -> Iterator[str]:
    """A port where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


@contextmanager
def unanswered() -> Iterator[str]:
    """A host that drops what comes: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        waiting = []
        for _ in range(4):
            one = socket.socket()
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(address)
            waiting.append(one)
        yield f"http://127.0.0.1:{address[1]}"
        for one in waiting:
            one.close()


def answering(status: int, body: bytes, *, length: int = 0) -> Callable[[], object]:
    """A server that says the same to everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(length or len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    @contextmanager
    def running() -> Iterator[str]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        server.server_close()

    return running


@pytest.mark.parametrize(
    ("stripe", "said"),
    [
        (nobody, "could not be reached"),
        (unanswered, "could not be reached"),
        (answering(200, b"<html>Welcome to the hotel's network</html>"), "could not be understood"),
        (answering(200, ACCOUNT, length=500), "could not be reached"),
        (answering(200, ACCOUNT), "could not be understood"),
        (answering(200, b"[]"), "could not be understood"),
        (answering(200, b'{"object": "customer"}'), "could not be understood"),
        (answering(200, b'{"error": 7}'), "could not be understood"),
        (answering(502, b"Bad Gateway"), "could not be understood"),
    ],
    ids=["refused", "dropped", "html", "cut", "truncated", "list", "other", "odd", "gateway"],
)
@pytest.mark.sampled(3)
def test_a_key_cannot_be_set_while_stripe_cannot_be_asked(
    database_url: str, stripe: Callable[[], object], said: str
) -> None:
    with stripe() as url, serving(database_url, url) as api:  # type: ignore[attr-defined]
        began = time.monotonic()
        answer = api.admin("PUT", "/test/config", {"secretKey": KEY})
        took = time.monotonic() - began
        assert answer.status_code in (502, 503), answer.text
        assert answer.json()["error"] == "UPSTREAM_FAILURE"
        assert said in answer.json()["message"]
        assert answer.json()["nextActions"]
        assert KEY not in answer.text
        assert took < 10
        assert api.admin("GET", "/config").json()["keys"][0]["value"] is None


@pytest.mark.full
def test_a_stripe_that_takes_half_a_minute_is_given_up_in_time(
    database_url: str, sandbox: str
) -> None:
    """InsForge's client gives up after 30 seconds: it hears of it before."""
    httpx.post(
        f"{sandbox}/_sandbox/fault",
        json={"seconds": 30, "path_prefix": "/v1/account", "times": 3},
        timeout=60,
    ).raise_for_status()
    try:
        with serving(database_url, sandbox) as api:
            began = time.monotonic()
            answer = api.admin("PUT", "/test/config", {"secretKey": KEY})
            assert answer.status_code == 502, answer.text
            assert "did not respond" in answer.json()["message"]
            assert answer.json()["nextActions"]
            assert time.monotonic() - began < 25
    finally:
        httpx.post(f"{sandbox}/_sandbox/reset", timeout=60).raise_for_status()


def test_stripe_is_asked_through_the_proxy_that_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with answering(200, ACCOUNT + b"}")() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy)
        monkeypatch.setenv("http_proxy", proxy)

        async def ask() -> str:
            gateway = Gateway(key_of, "http://stripe.invalid")
            try:
                return str((await gateway.account("test")).data["id"])
            finally:
                await gateway.close()

        assert asyncio.run(ask()) == "acct_1"


async def key_of(_: str) -> str:
    return KEY
