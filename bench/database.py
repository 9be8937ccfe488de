"""A PostgreSQL of the bench's own, with fsync on, as it is in earnest."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from billhook.postgres.embedded import EmbeddedPostgres, temporary
from billhook.postgres.migrate import migrate


@contextmanager
def server(**settings: str) -> Iterator[EmbeddedPostgres]:
    """An empty cluster, gone at the end."""
    with temporary(settings=settings) as postgres:
        yield postgres


@contextmanager
def migrated() -> Iterator[str]:
    """The address of a migrated database in a cluster of its own."""
    with server() as postgres:
        dsn = postgres.create_database("bench")
        asyncio.run(migrate(dsn))
        yield dsn
