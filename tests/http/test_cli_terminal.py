"""`billhook` at a terminal: it asks, it hides what is secret, it shows how far it is."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from api import Api
from http_tokens import ADMIN_KEY

PATIENCE = 30.0


class Terminal:
    """A `billhook` process that believes that a person sits before it."""

    def __init__(self, folder: Path, *arguments: str, **variables: str) -> None:
        self._side, other = pty.openpty()
        self.seen = ""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BILLHOOK_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "billhook.cli", *arguments],
            stdin=other,
            stdout=other,
            stderr=other,
            cwd=folder,
            env={**environment, "TERM": "xterm", "COLUMNS": "120", **variables},
            start_new_session=True,  # else getpass would open the test runner's own terminal
        )
        os.close(other)

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.seen:
            assert time.monotonic() < end, self.seen
            assert self._read(), self.seen

    def type(self, text: str) -> None:
        os.write(self._side, text.encode())

    def ended(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        os.close(self._side)
        return self._process.wait(PATIENCE)

    def _read(self) -> bool:
        if not select.select([self._side], [], [], PATIENCE)[0]:
            return False
        try:
            found = os.read(self._side, 4096)
        except OSError:  # Linux: the other side is closed
            return False
        self.seen += found.decode(errors="replace")
        return bool(found)


@pytest.fixture
def variables(api: Api) -> dict[str, str]:
    return {"BILLHOOK_URL": api.url, "BILLHOOK_API_KEY": ADMIN_KEY}


def test_a_question_is_asked_and_no_means_no(
    api: Api, tmp_path: Path, variables: dict[str, str]
) -> None:
    terminal = Terminal(tmp_path, "config", "remove", **variables)
    terminal.wait_for("Continue? [y/N]")
    terminal.type("n\n")
    assert terminal.ended() == 1
    assert api.admin("GET", "/config").json()["keys"][0]["value"] is not None
    terminal = Terminal(tmp_path, "config", "remove", **variables)
    terminal.wait_for("Continue? [y/N]")
    terminal.type("y\n")
    assert terminal.ended() == 0
    assert api.admin("GET", "/config").json()["keys"][0]["value"] is None


def test_a_typed_key_does_not_show(api: Api, tmp_path: Path, variables: dict[str, str]) -> None:
    terminal = Terminal(tmp_path, "link", "--url", api.url)
    # With the space at its end: it comes when what is typed no longer shows, and no longer is lost.
    terminal.wait_for("Admin key (ik_…): ")
    terminal.type(f"{ADMIN_KEY}\n")
    assert terminal.ended() == 0
    assert "Linked with" in terminal.seen
    assert ADMIN_KEY not in terminal.seen


def test_a_quick_sync_shows_its_result(api: Api, tmp_path: Path, variables: dict[str, str]) -> None:
    api.stripe.v1.products.create({"name": "Tea"})
    terminal = Terminal(tmp_path, "sync", **variables)
    assert terminal.ended() == 0
    assert "test: succeeded" in terminal.seen
    assert "Traceback" not in terminal.seen


CONNECTION = {
    **{"environment": "test", "status": "connected", "accountId": "acct_1", "accountEmail": None},
    **{"accountLivemode": False, "webhookEndpointId": None, "webhookEndpointUrl": None},
    **{"webhookConfiguredAt": None, "maskedKey": None, "lastSyncedAt": None},
    **{"lastSyncStatus": "succeeded", "lastSyncError": None, "lastSyncCounts": {"products": 8}},
}


@contextmanager
def slow_server() -> Iterator[str]:
    """A server whose sync ends when its progress has been asked for three times."""
    asked = threading.Semaphore(0)

    class Handler(BaseHTTPRequestHandler):
        looks = 0

        def do_GET(self) -> None:
            if self.path.endswith("/status"):
                self.answer({"connections": [CONNECTION]})
                return
            Handler.looks += 1
            counts = {"products": 4 * Handler.looks, "customers": 1000 * Handler.looks}
            started = "2026-05-12T22:41:07.123Z"
            progress = {"environment": "test", "running": True, "startedAt": started}
            self.answer({**progress, "counts": counts})
            asked.release()

        def do_POST(self) -> None:
            for _ in range(3):
                assert asked.acquire(timeout=PATIENCE)
            result = {"environment": "test", "connection": CONNECTION, "subscriptions": None}
            self.answer({"results": [result]})

        def answer(self, body: object) -> None:
            content = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_long_sync_shows_how_far_it_is(tmp_path: Path) -> None:
    with slow_server() as url:
        terminal = Terminal(tmp_path, "sync", BILLHOOK_URL=url, BILLHOOK_API_KEY=ADMIN_KEY)
        assert terminal.ended() == 0
    bars = terminal.seen.partition("test: succeeded")[0]
    assert "products" in bars
    assert "customers" in bars
    assert "1,000" in bars
    assert "Traceback" not in terminal.seen
