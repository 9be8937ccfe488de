"""`billhook serve` and `billhook worker` as processes of their own, as an operator starts them."""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from http_tokens import ADMIN_KEY, ANONYMOUS_KEY, JWT_SECRET, SIGNING_SECRET


class Process:
    """A running server or worker.

    Attributes:
        url: where a server answers.
        log: what it writes.
    """

    def __init__(self, url: str, log: Path, process: subprocess.Popen[bytes]) -> None:
        self.url = url
        self.log = log
        self._process = process

    def connection(self) -> socket.socket:
        """A connection without an HTTP client between."""
        address = httpx.URL(self.url)
        return socket.create_connection((address.host, address.port or 80), timeout=30)

    def memory(self) -> int:
        """Bytes that it holds now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        (line,) = [each for each in status.splitlines() if each.startswith("VmRSS:")]
        return int(line.split()[1]) * 1024

    def terminate(self) -> float:
        """Send SIGTERM; the seconds until it has ended."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        return time.monotonic() - began

    def kill(self) -> None:
        """Send SIGKILL to the process that was started, not to those that it started."""
        self._process.kill()
        self._process.wait(60)

    def open_files(self) -> tuple[int, int]:
        """How many files it may have open, and how far it could raise that."""
        return resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE)

    def workers(self) -> list[int]:
        """The ids of the processes that `--workers` has started."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        commands = {int(each): Path(f"/proc/{each}/cmdline").read_text() for each in children}
        return [child for child, command in commands.items() if "spawn_main" in command]

    def is_gone(self) -> bool:
        """Whether nothing listens any more."""
        address = httpx.URL(self.url)
        with socket.socket() as probe:
            return probe.connect_ex((address.host, address.port or 80)) != 0

    @property
    def code(self) -> int | None:
        """What it ended with."""
        return self._process.returncode


@contextmanager
def serving(
    database_url: str, stripe_url: str, folder: Path, *arguments: str, **settings: str
) -> Iterator[Process]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = ["serve", "--port", str(port), *arguments]
    url = f"http://127.0.0.1:{port}"
    with _running(database_url, stripe_url, folder, command, settings, url) as (server, process):
        deadline = time.monotonic() + 120
        while not _answers(server.url):
            assert process.poll() is None, server.log.read_text()
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.05)
        yield server


@contextmanager
def working(database_url: str, stripe_url: str, folder: Path, **settings: str) -> Iterator[Process]:
    with _running(database_url, stripe_url, folder, ["worker"], settings, "") as (worker, _):
        yield worker


@contextmanager
def _running(
    database_url: str,
    stripe_url: str,
    folder: Path,
    command: list[str],
    settings: dict[str, str],
    url: str,
) -> Iterator[tuple[Process, subprocess.Popen[bytes]]]:
    log = folder / "server.log"
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "DATABASE_URL": database_url,
        "JWT_SECRET": JWT_SECRET,
        "ACCESS_API_KEY": ADMIN_KEY,
        "ACCESS_ANON_KEY": ANONYMOUS_KEY,
        "STRIPE_TEST_WEBHOOK_SECRET": SIGNING_SECRET,
        "STRIPE_API_BASE": stripe_url,
        "BILLHOOK_RECOVERY": "false",
        **settings,
    }
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "billhook.cli", *command],
            env=environment,
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Process(url, log, process), process
    finally:
        process.kill()
        process.wait()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").is_success
    except httpx.TransportError:
        return False
