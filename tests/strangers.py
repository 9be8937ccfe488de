"""Another user of the database: one that nobody granted anything."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from books import Books

NAME = "stranger"


def as_user(direct_url: str, user: str) -> str:
    """The same database, for another user of the tests' cluster."""
    return direct_url.replace("postgresql://postgres@", f"postgresql://{user}@")


@contextmanager
def stranger(direct_url: str) -> Iterator[Books]:
    """The database as the user `stranger` sees it, who is gone afterwards with all they made."""
    owner = Books(direct_url)
    owner.execute(f"CREATE ROLE {NAME} LOGIN")
    try:
        yield Books(as_user(direct_url, NAME))
    finally:
        owner.execute(f"DROP OWNED BY {NAME}; DROP ROLE {NAME}")
