"""What the tests that run Node.js share."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "clients"


def require_node() -> None:
    """Skip where Node.js or its packages are missing; in CI that is a failure."""
    if (HERE / "node_modules").exists() and shutil.which("node") is not None:
        return
    if os.environ.get("CI"):
        pytest.fail("Node.js or its packages are missing: npm ci --prefix tests/clients")
    pytest.skip("needs Node.js and: npm ci --prefix tests/clients")
