from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from sandbox.shop import Receiver, Sandbox, Shop

Launch = Callable[..., tuple[subprocess.Popen[str], Sandbox]]


def start(*arguments: str) -> tuple[subprocess.Popen[str], Sandbox]:
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook.sandbox", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("billhook sandbox: "), line
    return process, Sandbox(line.removeprefix("billhook sandbox: ").strip())


def stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """One process for all tests; each test has its own account in it."""
    process, found = start("--allow-live")
    yield found
    stop(process)


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts processes of the test's own, and stops them however the test ends."""
    started: list[subprocess.Popen[str]] = []

    def one(*arguments: str) -> tuple[subprocess.Popen[str], Sandbox]:
        process, found = start(*arguments)
        started.append(process)
        return process, found

    yield one
    for process in started:
        stop(process)


@pytest.fixture
def shop(sandbox: Sandbox) -> Shop:
    return sandbox.shop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()
