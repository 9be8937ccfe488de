"""The npm packages of the independent checks, and the error for a missing tool."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"
INSTALL = "npm ci --prefix tests/sandbox/referees"


def missing(what: str, how: str) -> None:
    """Fails in CI; elsewhere, skips the test."""
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing: {how}")
    pytest.skip(f"needs {what}: {how}")


def installed() -> bool:
    return shutil.which("node") is not None and PACKAGES.exists()


def need_node() -> None:
    if not installed():
        missing("Node.js with the referees' packages", INSTALL)
