from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pytest

from billhook_sandbox.delivery_policy import DeliveryPolicy
from sandbox.referees.tools import installed
from sandbox.referees.typescript import api_version, complaints
from sandbox.shop import Receiver, Sandbox, Shop, web

Launch = Callable[..., tuple[subprocess.Popen[str], Sandbox]]


def start(*arguments: str) -> tuple[subprocess.Popen[str], Sandbox]:
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook_sandbox", "--port", "0", *arguments],
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
    try:
        if installed() or os.environ.get("CI"):
            judge_all(found)
    finally:
        stop(process)


def judge_all(found: Sandbox) -> None:
    """All objects that the tests created must match the types of stripe-node."""
    lines = web.get(f"{found.url}/_sandbox/dump").text.splitlines()
    objects = [json.loads(line)["object"] for line in lines]
    current = [o for o in objects if o.get("api_version", api_version()) in (api_version(), None)]
    with tempfile.TemporaryDirectory(prefix="billhook-corpus-") as folder:
        found_wrong = complaints(current, Path(folder))
    assert not found_wrong, "\n".join(sorted(set(found_wrong)))


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts sandbox processes for one test, and stops them when it ends."""
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
def set_delivery(sandbox: Sandbox) -> Iterator[Callable[..., None]]:
    """Changes the delivery policy for one test."""
    yield partial(sandbox.control, "delivery")
    sandbox.control("delivery", **asdict(DeliveryPolicy()))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()
