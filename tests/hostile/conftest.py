"""Tests of `tests/database` and `tests/http`, in a database full of hostile objects."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import aside
import hostile_objects
from api import api, price, shared_api
from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import migrate
from books import Books
from selling import shop

__all__ = ["api", "price", "shared_api", "shop"]


@pytest.fixture(scope="session")
def template(postgres: EmbeddedPostgres) -> str:
    """A database that was migrated in the presence of hostile objects; then more were made."""
    dsn = postgres.create_database("hostile")
    assert aside.run(hostile_objects.install(dsn)) > 10_000
    aside.run(migrate(dsn))
    assert aside.run(hostile_objects.called(dsn)) is None
    aside.run(hostile_objects.install(dsn))
    return "hostile"


@pytest.fixture
def database_url(database_url: str) -> Iterator[str]:
    """A copy of it, in which nothing hostile ran until the test's end."""
    yield database_url
    assert aside.run(hostile_objects.called(database_url)) is None, "a hostile object was called"


@pytest.fixture(scope="module")
def shared_database_url(shared_database_url: str) -> Iterator[str]:
    """The same for a module."""
    yield shared_database_url
    assert aside.run(hostile_objects.called(shared_database_url)) is None


@pytest.fixture
def books(database_url: str) -> Books:
    """A ledger on such a database."""
    return Books(database_url)
