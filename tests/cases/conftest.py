from __future__ import annotations

import pytest

from books import Books


@pytest.fixture
def books(database_url: str) -> Books:
    """A ledger on one database, wiped before each order."""
    return Books(database_url)
