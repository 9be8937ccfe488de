from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from books import Books

settings.register_profile(
    "default",
    max_examples=100,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# Other ones each night; pytest's --hypothesis-seed repeats a night.
settings.register_profile(
    "nightly",
    settings.get_profile("default"),
    max_examples=2000,
    derandomize=False,
    print_blob=True,
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


@pytest.fixture
def books(database_url: str) -> Books:
    """A ledger on one database, wiped between examples."""
    return Books(database_url)
