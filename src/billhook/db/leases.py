"""One at a time, across processes and without sessions: works behind a transaction-mode pooler.

A lease is a row with an end. Its holder renews it; when the holder dies, it runs out and another
may go on. All times are PostgreSQL's, so clocks of machines don't matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID, uuid4

import asyncpg

from billhook.db import Database
from billhook.errors import BillhookError, DatabaseUnavailable

_RENEW_EVERY = 10.0  # seconds; without a sign of life a lease lasts 30
_LOOK_EVERY = 0.2

_TAKE = """
INSERT INTO billhook.leases AS held (name, holder, until)
VALUES ($1, $2, now() + interval '30 seconds')
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
WHERE held.until < now()
RETURNING true
"""
_RENEW = """
UPDATE billhook.leases SET until = now() + interval '30 seconds'
WHERE name = $1 AND holder = $2
"""
_GIVE_BACK = "DELETE FROM billhook.leases WHERE name = $1 AND holder = $2"


class Busy(BillhookError):
    """409: somebody else has been doing the same for too long to wait."""

    status = 409
    code = "DATABASE_DUPLICATE"


@asynccontextmanager
async def try_lease(database: Database, name: str) -> AsyncIterator[bool]:
    """Hold the lease `name` if nobody does: True, or False when somebody does."""
    holder = uuid4()
    async with database.connection() as connection:
        taken = bool(await connection.fetchval(_TAKE, name, holder))
    if not taken:
        yield False
        return
    renewing = asyncio.create_task(_renew(database, name, holder))
    try:
        yield True
    finally:
        renewing.cancel()
        # What cannot be given back runs out.
        with suppress(DatabaseUnavailable, asyncpg.PostgresError):
            async with database.connection() as connection:
                await connection.execute(_GIVE_BACK, name, holder)


@asynccontextmanager
async def lease(database: Database, name: str, *, patience: float = 25.0) -> AsyncIterator[None]:
    """Hold the lease `name`, waiting for whoever holds it.

    Raises:
        Busy: it was not free within `patience` seconds.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        async with try_lease(database, name) as taken:
            if taken:
                yield
                return
        if asyncio.get_running_loop().time() > deadline:
            raise Busy(
                f"Another process is still busy with {name}.",
                next_actions="Wait a moment and try again.",
            )
        await asyncio.sleep(_LOOK_EVERY)


async def _renew(database: Database, name: str, holder: UUID) -> None:
    while True:
        await asyncio.sleep(_RENEW_EVERY)
        with suppress(DatabaseUnavailable, asyncpg.PostgresError):
            async with database.connection() as connection:
                await connection.execute(_RENEW, name, holder)
