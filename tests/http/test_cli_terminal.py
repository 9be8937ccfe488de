"""`billhook` at a terminal: it asks, it hides what is secret, it shows how far it is."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
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
    terminal.wait_for("Go on? [y/N]")
    terminal.type("n\n")
    assert terminal.ended() == 1
    assert api.admin("GET", "/config").json()["keys"][0]["value"] is not None
    terminal = Terminal(tmp_path, "config", "remove", **variables)
    terminal.wait_for("Go on? [y/N]")
    terminal.type("y\n")
    assert terminal.ended() == 0
    assert api.admin("GET", "/config").json()["keys"][0]["value"] is None


def test_a_typed_key_does_not_show(api: Api, tmp_path: Path, variables: dict[str, str]) -> None:
    terminal = Terminal(tmp_path, "link", "--url", api.url)
    terminal.wait_for("Admin key")
    terminal.type(f"{ADMIN_KEY}\n")
    assert terminal.ended() == 0
    assert "Linked with" in terminal.seen
    assert ADMIN_KEY not in terminal.seen


def test_a_sync_shows_how_far_it_is(api: Api, tmp_path: Path, variables: dict[str, str]) -> None:
    api.stripe.v1.products.create({"name": "Tea"})
    terminal = Terminal(tmp_path, "sync", **variables)
    assert terminal.ended() == 0
    assert "test: succeeded" in terminal.seen
    assert "Traceback" not in terminal.seen
