"""`billhook dev`, as `make run` starts it, and a Chromium to walk it with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright
from watching import watched

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
def state_folder() -> Iterator[Path]:
    """Where the `billhook dev` of `shop` keeps its state."""
    with tempfile.TemporaryDirectory(prefix="billhook-dev-") as folder:
        yield Path(folder) / "state"


@pytest.fixture(scope="session")
def shop(state_folder: Path) -> Iterator[str]:
    """The address of the demo shop of a fresh `billhook dev`, which says it when all runs."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "billhook.cli", "dev", "--state", str(state_folder)),
            *("--with-history", "--port", "0", "--sandbox-port", "0"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    said = iter(process.stdout.readline, "")
    address = next((line.split()[-1] for line in said if "Demo shop" in line), None)
    assert address is not None, "billhook dev did not start; see its error message above"
    yield f"{address}/"
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 0


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
    """A narrow window."""
    with watched(browser, viewport={"width": 390, "height": 844}) as found:
        yield found
