"""Stripe sandbox processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def running_sandbox() -> Iterator[str]:
    """The address of a Stripe sandbox process of one's own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "billhook_sandbox", "--port", "0", "--allow-live"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("billhook sandbox: "), line
    yield line.removeprefix("billhook sandbox: ").strip()
    process.terminate()
    process.wait(10)
