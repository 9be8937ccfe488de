"""A PostgreSQL for the benchmarks, with fsync on, as in production."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from billhook.postgres.embedded import EmbeddedPostgres, temporary
from billhook.postgres.migrate import migrate


@contextmanager
def server(**settings: str) -> Iterator[EmbeddedPostgres]:
    """An empty cluster, deleted at the end."""
    with temporary(settings=settings) as postgres:
        yield postgres


@contextmanager
def migrated() -> Iterator[str]:
    """The URL of a migrated database in its own cluster."""
    with server() as postgres:
        dsn = postgres.create_database("bench")
        asyncio.run(migrate(dsn))
        yield dsn
