"""A sandbox that starts in an app's folder imports none of the app's files."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from billhook.dev.listening import listen
from billhook.dev.sandbox import start_sandbox
from billhook_sandbox.testing import running_sandbox


@pytest.fixture(autouse=True)
def _app_with_a_file_named_as_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stripe.py", "queue.py"):
        (tmp_path / name).write_text("raise SystemExit('this is the app')")
    monkeypatch.chdir(tmp_path)


def test_in_the_apps_tests() -> None:
    with running_sandbox() as sandbox:
        assert httpx.get(f"{sandbox.url}/_sandbox/health").is_success


def test_by_billhook_dev(tmp_path: Path) -> None:
    async def start() -> None:
        with listen(0, 0) as port:
            async with (
                start_sandbox(port, tmp_path / "sandbox.sqlite", tmp_path) as sandbox,
                httpx.AsyncClient() as http,
            ):
                assert (await http.get(f"{sandbox.url}/_sandbox/health")).is_success

    asyncio.run(start())


def test_at_the_command_line() -> None:
    billhook = Path(sys.executable).with_name("billhook")
    ran = subprocess.run(
        [billhook, "sandbox", "--help"], capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    assert "--data" in ran.stdout
