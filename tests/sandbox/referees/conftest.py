"""Fixtures for the independent checks."""

from __future__ import annotations

import pytest

from sandbox.referees.tools import need_node


@pytest.fixture
def node() -> None:
    """Node.js and the packages of this folder."""
    need_node()
