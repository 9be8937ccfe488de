"""What strangers send costs neither memory nor time nor a connection for long."""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from structlog.testing import capture_logs

import process
from api import Api, serving
from billhook.http import server
from books import Books
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, signature, token
from stripe_events import customer, event, payload
from waiting import until

PATH = "/api/webhooks/stripe/test"

OPENED = """
    INSERT INTO payments.stripe_checkout_sessions
        (environment, mode, status, success_url, cancel_url, checkout_session_id)
    VALUES ('test', 'payment', 'open', 'https://shop.test', 'https://shop.test', 'cs_1')
    RETURNING id
"""
# The page has read its row, and whether it ended is asked again and again.
READ = """
    SELECT 1 FROM pg_stat_user_tables
    WHERE relid = 'payments.stripe_checkout_sessions'::regclass
      AND seq_scan + coalesce(idx_scan, 0) > 3
"""


def head(length: int, *headers: str) -> bytes:
    lines = [f"POST {PATH} HTTP/1.1", "Host: billhook.test", f"Content-Length: {length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """The status line and what follows, as far as it came at once."""
    return connection.recv(4096)


@pytest.fixture
def running(database_url: str, sandbox: str, tmp_path: Path) -> Iterator[process.Process]:
    with process.serving(database_url, sandbox, tmp_path) as found:
        yield found


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], b"401"),
        (["Stripe-Signature: nonsense"], b"400"),
        (["Stripe-Signature: t=1,v1=old"], b"400"),
        ([f"Stripe-Signature: t={{now}},v1={'0' * 5000}"], b"400"),
    ],
)
def test_what_is_not_signed_is_refused_before_its_body_is_sent(
    shared_api: Api, headers: list[str], status: bytes
) -> None:
    address = httpx.URL(shared_api.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        connection.sendall(
            head(4_000_000, *(each.format(now=int(time.time())) for each in headers))
        )
        assert answer(connection).split()[1] == status
        # Whatever is sent nevertheless is not kept, and the connection goes on.
        connection.sendall(
            b"x" * 4_000_000 + b"GET /health HTTP/1.1\r\nHost: billhook.test\r\n\r\n"
        )
        assert answer(connection).split()[1] == b"200"


@pytest.mark.parametrize("signed", ["", "forged"])
def test_forty_connections_with_five_megabytes_each_hold_no_memory(
    running: process.Process, signed: str
) -> None:
    forged = f"Stripe-Signature: t={int(time.time())},v1={'0' * 64}"
    length = 4_999_000
    before = running.memory()
    with ExitStack() as connections:
        opened = [connections.enter_context(running.connection()) for _ in range(40)]
        for each in opened:
            each.setblocking(False)
            each.send(head(length, *([forged] if signed else [])))
        left = dict.fromkeys(opened, length - 1)  # never the last byte
        idle = 0
        while any(left.values()) and idle < 20:
            sent = 0
            for each in opened:
                try:
                    now = each.send(b"x" * min(left[each], 100_000))
                except BlockingIOError:
                    continue
                left[each] -= now
                sent += now
            idle = 0 if sent else idle + 1
            time.sleep(0 if sent else 0.02)
        held = running.memory() - before
        body = payload(event("customer.created", customer()))
        headers = {"stripe-signature": signature(body)}
        real = httpx.post(f"{running.url}{PATH}", content=body, headers=headers, timeout=30)
    assert held < 60_000_000  # of 200
    assert real.status_code == 200


def test_an_event_of_a_megabyte_is_applied(api: Api) -> None:
    big = event("customer.created", customer(metadata={"x": "y" * 1_000_000}))
    assert api.deliver(payload(big)).status_code == 200


@pytest.fixture
def impatient(database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setattr(server, "_HEAD_WITHIN", 0.3)
    monkeypatch.setattr(server, "_BODY_WITHIN", 0.3)
    with serving(database_url, sandbox) as found:
        yield found


@pytest.mark.parametrize(
    "begun",
    [
        b"",
        b"\r\n",
        b"POST ",
        b"POST / HTTP/1.1\r\nHost: a\r\nX-Slow: ",
        head(1000, "Stripe-Signature: t=NOW,v1=00"),
        head(1000),
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\n",
    ],
)
def test_a_client_that_never_finishes_its_request_loses_its_connection(
    impatient: Api, begun: bytes
) -> None:
    address = httpx.URL(impatient.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        connection.sendall(begun.replace(b"NOW", b"%d" % time.time()))
        try:
            while connection.recv(4096):
                pass
        except ConnectionResetError:
            pass


def test_a_new_connection_takes_the_place_of_the_longest_idle_ones(
    database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "most_connections", lambda: 20)
    monkeypatch.setattr(server.Protocol, "_full_logged_at", -math.inf)
    row = Books(database_url).row(OPENED)
    page = f"/api/payments/stripe/test/checkout-sessions/{row['id']}"
    begun = [
        b"",
        b"POST / HTTP/1.1\r\nHost: a\r\n",
        head(1000, f"Stripe-Signature: t={int(time.time())},v1=00"),
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    with capture_logs() as logged, serving(database_url, sandbox) as api, ExitStack() as opened:
        address = httpx.URL(api.url)

        def connected(sent: bytes) -> socket.socket:
            connection = socket.create_connection((address.host, address.port or 80), timeout=30)
            connection.sendall(sent)
            return opened.enter_context(connection)

        waiting = connected(
            f"GET {page}?wait=30 HTTP/1.1\r\nHost: a\r\n"
            f"Authorization: Bearer {token()}\r\n\r\n".encode()
        )
        until(lambda: api.books.rows(READ))
        idle = [connected(begun[n % len(begun)]) for n in range(100)]
        assert httpx.get(f"{api.url}/health").status_code == 200
        for each in idle[: len(begun)]:
            with suppress(ConnectionResetError):
                while each.recv(4096):
                    pass
        api.books.execute("UPDATE payments.stripe_checkout_sessions SET status = 'expired'")
        assert answer(waiting).split()[1] == b"200"
    (line,) = [each for each in logged if "too many connections" in each["event"]]
    assert (line["log_level"], line["most"]) == ("warning", 20)


@pytest.fixture
def answering(
    database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Api, dict[str, str]]]:
    """A server that does not wait for long, and the paths of a small and a large answer."""
    monkeypatch.setattr(server, "_ANSWER_WITHIN", 0.3)
    with serving(database_url, sandbox, send_buffer=4096) as api:
        paths = {}
        for size, length in (("small", 40_000), ("large", 400_000)):
            sent = event("customer.created", customer(metadata={"x": "y" * length}))
            assert api.deliver(payload(sent)).status_code == 200
            paths[size] = f"/api/payments/stripe/test/webhook-events/{sent['id']}"
        yield api, paths


@pytest.mark.parametrize("read_every", [30_000, 10], ids=["reads nothing", "reads slowly"])
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.sampled(4)
def test_a_client_that_does_not_take_its_answer_loses_its_connection(
    answering: tuple[Api, dict[str, str]], size: str, connection: str, read_every: int
) -> None:
    api, paths = answering
    address = httpx.URL(api.url)
    with socket.socket() as client:
        client.settimeout(30)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((address.host, address.port))
        client.sendall(
            f"GET {paths[size]} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_KEY}\r\n"
            f"Connection: {connection}\r\n\r\n".encode()
        )
        assert client.recv(12) == b"HTTP/1.1 200"
        lost = select.poll()
        lost.register(client, 0)
        began = time.monotonic()
        while not lost.poll(read_every):
            assert time.monotonic() - began < 25
            assert client.recv(10)
    assert httpx.get(f"{api.url}/health").status_code == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        (f"/api/{'a' * 17_000}", {}, 414),
        (f"/api/health?q={'a' * 17_000}", {}, 414),
        ("/health", {f"x-{n}": "a" * 4_000 for n in range(10)}, 431),
        (f"/api/payments/stripe/test/catalog/prices/{'p' * 256}", {}, 400),
        (f"/api/payments/stripe/test/catalog/prices?productId={'p' * 256}", {}, 400),
        (f"/api/payments/stripe/test/webhook-events?type={'p' * 256}", {}, 400),
        (f"/api/payments/stripe/test/customers?email={'p' * 256}", {}, 400),
        (f"/api/payments/stripe/test/customers?limit={'1' * 5_000}", {}, 400),
        (f"/api/payments/stripe/test/{'p' * 9_000}", {}, 404),
        (f"/api/payments/stripe/{'p' * 9_000}/catalog", {}, 400),
    ],
)
def test_what_is_too_long_is_refused_in_a_few_words(
    shared_api: Any, path: str, headers: dict[str, str], status: int
) -> None:
    found = shared_api.http.get(path, headers={"authorization": f"Bearer {ADMIN_KEY}", **headers})
    assert (found.status_code, found.json()["statusCode"]) == (status, status)
    assert len(found.content) < 1_000


def test_headers_beyond_reason_end_the_connection(api: Api) -> None:
    address = httpx.URL(api.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Large: ")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            send_on(connection, 10_000_000)


def send_on(connection: socket.socket, size: int, piece: bytes = b"a" * 10_000) -> None:
    for _ in range(size // len(piece)):
        connection.sendall(piece)


def test_a_hostile_query_string_stops_nobody_and_is_not_logged(running: process.Process) -> None:
    began = time.monotonic()
    hostile = "postgres://a:" * 1_000
    assert httpx.get(f"{running.url}/?{hostile}", timeout=60).status_code == 404
    assert httpx.get(
        f"{running.url}/api/payments/stripe/test/x?mail=ada@example.com", timeout=60
    ).is_error
    assert time.monotonic() - began < 5
    assert "ada@example.com" not in running.log.read_text()
    assert "postgres://a:" not in running.log.read_text()


def test_requests_that_are_sent_without_waiting_for_answers_hold_no_memory(
    running: process.Process,
) -> None:
    address = httpx.URL(running.url)
    many = b"GET /aaaaaaaaaaaaaa HTTP/1.1\r\n\r\n" * 1024
    before = running.memory()
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            connection.sendall(many * 400)
        assert running.memory() - before < 40_000_000
    assert httpx.get(f"{running.url}/health").status_code == 200


CHUNKED = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n%s\r\n"


@pytest.mark.parametrize("more", [b"a:b\r\n" * 2_000, b"a" * 10_000], ids=["many", "one large"])
@pytest.mark.parametrize("when", ["before the answer", "after the answer"])
def test_what_follows_a_chunked_body_holds_no_memory(
    running: process.Process, when: str, more: bytes
) -> None:
    forged = b"Stripe-Signature: t=%d,v1=%s\r\n" % (time.time(), b"0" * 64)
    before = running.memory()
    with running.connection() as connection:
        if when == "before the answer":
            connection.sendall(CHUNKED % (PATH.encode(), forged) + b"1\r\nx\r\n0\r\na: b")
        else:
            connection.sendall(CHUNKED % (b"/nothing", b"") + b"0\r\na: b")
            assert answer(connection).split()[1] == b"404"
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            send_on(connection, 30_000_000, more)
        assert running.memory() - before < 20_000_000
    assert httpx.get(f"{running.url}/health").status_code == 200


def test_what_follows_a_chunked_body_is_no_header(shared_api: Api) -> None:
    address = httpx.URL(shared_api.url)
    path = b"/api/payments/stripe/test/checkout-sessions"
    trailer = b"Authorization: Bearer %s\r\n" % ANONYMOUS_KEY.encode()
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        # In one piece, so that everything is there before the request is answered.
        connection.sendall(CHUNKED % (path, b"") + b"2\r\n{}\r\n0\r\n" + trailer + b"\r\n")
        assert answer(connection).split()[1] == b"401"
        # A few of them are allowed, and the connection goes on.
        connection.sendall(CHUNKED % (path, trailer) + b"2\r\n{}\r\n0\r\nX-Sum: 1\r\n\r\n")
        assert answer(connection).split()[1] == b"400"
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer(connection).split()[1] == b"200"


@pytest.mark.parametrize("size", [b"", b"1" * 12], ids=["chunks", "a length"])
def test_a_body_without_end_loses_its_connection_after_the_answer(
    shared_api: Api, size: bytes
) -> None:
    address = httpx.URL(shared_api.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        if size:
            connection.sendall(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\n\r\n" % size)
        else:
            connection.sendall(CHUNKED % (b"/x", b""))
        assert answer(connection).split()[1] == b"404"
        piece = b"x" * 10_000 if size else b"2710\r\n" + b"x" * 10_000 + b"\r\n"
        with pytest.raises(OSError, match=r"reset|Broken pipe"):
            send_on(connection, 30_000_000, piece)


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX Y: 1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nX: \x01\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    ],
    ids=["no request", "header name", "header value", "path", "length"],
)
def test_what_is_no_http_request_gets_an_error_like_all_others(
    shared_api: Api, sent: bytes
) -> None:
    address = httpx.URL(shared_api.url)
    with socket.create_connection((address.host, address.port or 80), timeout=30) as connection:
        connection.sendall(sent)
        found = b""
        while piece := connection.recv(4096):
            found += piece
    headers, _, body = found.partition(b"\r\n\r\n")
    assert headers.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"content-type: application/json\r\n" in headers
    error = orjson.loads(body)
    assert (error["error"], error["statusCode"]) == ("INVALID_INPUT", 400)
    assert error["message"].isascii()
