"""`billhook dev`, as `make run` starts it, and a Chromium to walk it with."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def shop() -> Iterator[str]:
    """The address of the demo shop of a fresh `billhook dev`."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="billhook-dev-") as folder:
        state = Path(folder) / "state"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "billhook.cli", "dev"),
                *("--state", str(state), "--port", str(port)),
            ],
            stdout=subprocess.DEVNULL,
        )
        address = f"http://127.0.0.1:{port}"
        with httpx.Client(transport=httpx.HTTPTransport(retries=10), timeout=60) as http:
            http.get(f"{address}/health").raise_for_status()
        yield f"{address}/demo/"
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")  # Playwright holds the thread's event loop while it lives
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing; .ci/run installs it")
        pytest.skip("needs Chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=chromium, args=_FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A browser that nobody used before."""
    context = browser.new_context()
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()
