"""A server that dies at a chosen moment of its talk with PostgreSQL, and comes back.

A proxy between the two counts the protocol's messages, both ways. At the chosen one the server is
killed (SIGKILL) and the message is lost: before it, or with half of it on its way.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from books import Books
from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, JWT_SECRET, SIGNING_SECRET

# Imports and routes cost a second; a fork costs nothing.
_NURSERY = """
import gc, os, signal, socket, sys
import stripe, uvicorn, uvloop
from billhook.app import from_environment
app = from_environment()
uvicorn.Config(app).load()
stripe.StripeClient("sk_test_imports")
gc.freeze()
signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the dead are gone at once
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        config = uvicorn.Config(app, log_level="error")
        uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(line))])
        os._exit(0)
    print(child, flush=True)
"""


class Link:
    """Passes on what Billhook and PostgreSQL say to each other, message by message."""

    def __init__(self, dsn: str) -> None:
        self.seen = 0
        self._fatal_at = 0
        self._half = False
        self._kill: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._address = _address_of(dsn)
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        path = urlsplit(dsn).path
        port = self._listener.getsockname()[1]
        self.dsn = f"postgresql://postgres@127.0.0.1:{port}{path}?sslmode=disable"
        threading.Thread(target=self._accept, daemon=True).start()

    def arm(self, at: int, *, half: bool, kill: Callable[[], None]) -> None:
        """From now on count; at the message `at` (0: never) call `kill` and cut everything."""
        with self._lock:
            self.seen, self._fatal_at, self._half, self._kill = 0, at, half, kill

    def lead_to(self, dsn: str) -> None:
        """From now on to another PostgreSQL, as an address does that fails over."""
        self._address = _address_of(dsn)
        self._cut()

    def close(self) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(
                socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
            )
            try:
                server.connect(self._address)
            except OSError:  # PostgreSQL is away
                client.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [client, server]
            for source, sink, startup in ((client, server, True), (server, client, False)):
                threading.Thread(
                    target=self._carry, args=(source, sink, startup), daemon=True
                ).start()

    def _carry(self, source: socket.socket, sink: socket.socket, startup: bool) -> None:
        with suppress(OSError, EOFError):
            if startup:  # the only message without a type
                head = _exactly(source, 4)
                sink.sendall(head + _exactly(source, int.from_bytes(head) - 4))
            while True:
                head = _exactly(source, 5)
                message = head + _exactly(source, int.from_bytes(head[1:]) - 4)
                with self._lock:
                    self.seen += 1
                    fatal = self.seen == self._fatal_at
                    if fatal:
                        if self._half:
                            sink.sendall(message[: len(message) // 2])
                        self._kill()
                        self._cut()
                if not fatal:
                    sink.sendall(message)
        _hang_up(source, sink)

    def _cut(self) -> None:
        _hang_up(*self._sockets)
        self._sockets.clear()


class Server:
    """`billhook serve`'s application, without the recovery worker: what happens is what was asked.
    Its listening socket is ours, so requests wait while it is dead, as at a load balancer."""

    def __init__(self, dsn: str, sandbox: str) -> None:
        self.books = Books(dsn)
        self.link = Link(dsn)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        descriptor = self._listener.fileno()
        self._nursery = subprocess.Popen(
            [sys.executable, "-c", _NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[descriptor],
            env=os.environ
            | {
                "DATABASE_URL": self.link.dsn,
                "JWT_SECRET": JWT_SECRET,
                "ACCESS_API_KEY": ADMIN_KEY,
                "ACCESS_ANON_KEY": ANONYMOUS_KEY,
                "STRIPE_TEST_WEBHOOK_SECRET": SIGNING_SECRET,
                "STRIPE_API_BASE": sandbox,
                "BILLHOOK_STRIPE_LIST_RATE": "0",
                "BILLHOOK_STRIPE_TEST_RATE": "0",
                "BILLHOOK_POOL_SIZE": "2",
                "BILLHOOK_RECOVERY": "false",
                "BILLHOOK_LOG_LEVEL": "error",
            },
        )
        self._child = 0

    def start(self) -> None:
        """Start, and wait until it answers."""
        assert self._nursery.stdin
        assert self._nursery.stdout
        self._nursery.stdin.write(f"{self._listener.fileno()}\n")
        self._nursery.stdin.flush()
        self._child = int(self._nursery.stdout.readline())
        httpx.get(f"{self.url}/health", timeout=60).raise_for_status()

    def kill(self) -> None:
        if self._child:
            os.kill(self._child, signal.SIGKILL)
            while alive(self._child):
                time.sleep(0.001)
            self._child = 0

    def close(self) -> None:
        self.kill()
        assert self._nursery.stdin
        self._nursery.stdin.close()
        self._nursery.wait()
        self._listener.close()
        self.link.close()

    def messages_of(
        self, ask: Callable[[httpx.Client], httpx.Response], *, fails: bool = False
    ) -> int:
        """How many messages `ask` takes, undisturbed, of a server just started."""
        self.start()
        self.link.arm(0, half=False, kill=self.kill)
        with httpx.Client(base_url=self.url, timeout=60) as http:
            answer = ask(http)
        assert answer.is_success != fails, answer.text
        self.kill()
        return self.link.seen

    def interrupted(
        self, ask: Callable[[httpx.Client], httpx.Response], at: int, *, half: bool
    ) -> httpx.Response:
        """Start, `ask`, die at the message `at` of it, start again and ask again.

        Returns:
            The second answer.
        """
        self.start()
        self.link.arm(at, half=half, kill=self.kill)
        # It may die of a message of its start, before it sees the question: that waits in vain.
        with httpx.Client(base_url=self.url, timeout=5) as http, suppress(httpx.TransportError):
            ask(http)
        self.link.arm(0, half=False, kill=self.kill)
        self.kill()
        # The 15 seconds pass after which a dead server's leases run out.
        self.books.execute("UPDATE billhook.leases SET until = now() - interval '1 second'")
        self.start()
        with httpx.Client(base_url=self.url, timeout=60) as http:
            answer = ask(http)
        self.kill()
        return answer


@contextmanager
def doomed(dsn: str, sandbox: str) -> Iterator[Server]:
    server = Server(dsn, sandbox)
    try:
        yield server
    finally:
        server.close()


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _address_of(dsn: str) -> Any:
    """Where PostgreSQL listens: a socket's path, or host and port."""
    parts = urlsplit(dsn)
    folder = parse_qs(parts.query).get("host")
    return f"{folder[0]}/.s.PGSQL.5432" if folder else (parts.hostname, parts.port)


def _hang_up(*sockets: socket.socket) -> None:
    """Both ways, also for a thread that waits for something to read."""
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _exactly(source: socket.socket, length: int) -> bytes:
    found = b""
    while len(found) < length:
        part = source.recv(length - len(found))
        if not part:
            raise EOFError
        found += part
    return found
