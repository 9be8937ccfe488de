from __future__ import annotations

from collections.abc import Iterator

import pytest

from books import Books, opened


@pytest.fixture
def books(database_url: str) -> Iterator[Books]:
    """A ledger on one database, wiped before each order."""
    with opened(database_url) as found:
        yield found
