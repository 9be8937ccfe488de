"""docs/tutorial/: each step runs as it stands there, with what `make run` starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pages import blocks


@pytest.mark.full
def test_the_first_order_is_paid(tmp_path: Path) -> None:
    venv = tmp_path / ".venv" / "bin"
    venv.mkdir(parents=True)
    (venv / "activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    log = (tmp_path / "dev.log").open("wb")
    dev = subprocess.Popen(
        [sys.executable, "-m", "billhook.cli", "dev", "--port", "0", "--sandbox-port", "0"],
        cwd=tmp_path,
        stdout=log,
        stderr=log,
    )
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / ".billhook/env").exists():
            assert dev.poll() is None, Path(log.name).read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        steps = "\n".join(blocks("docs/tutorial/first-order.md", "sh"))
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", steps],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
        )
    finally:
        dev.send_signal(signal.SIGINT)
        dev.wait(60)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "49.00 EUR" in ran.stdout
    assert "succeeded" in ran.stdout
    assert "checkout.session.completed" in ran.stdout
