from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from sandbox.shop import Receiver, Sandbox, Shop

Start = Callable[..., Sandbox]


def launch(*arguments: str) -> tuple[subprocess.Popen[str], Sandbox]:
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
    process, found = launch("--allow-live")
    yield found
    stop(process)


@pytest.fixture
def shop(sandbox: Sandbox) -> Shop:
    return sandbox.shop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()
