"""One at a time, across processes and without sessions: works behind a transaction-mode pooler.

A lease is a row with an expiration time. Its holder renews it; when the holder dies, it expires and
another process may take over. A holder that was disconnected for too long may not notice that it
lost its lease, so each of its writes checks it, in the same transaction. All times are
PostgreSQL's, so the machines' clocks don't matter.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

import asyncpg

from billhook.errors import BillhookError, DatabaseUnavailable
from billhook.postgres import Connection, Database

_RENEW_EVERY = 5.0  # seconds; without a renewal, a lease expires after 15
_LOOK_EVERY = 0.2

_TAKE = """
INSERT INTO billhook.leases AS held (name, holder, until)
VALUES ($1, $2, now() + interval '15 seconds')
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, until = EXCLUDED.until
WHERE held.until < now()
RETURNING true
"""
_RENEW = """
UPDATE billhook.leases SET until = now() + interval '15 seconds'
WHERE name = $1 AND holder = $2
"""
_HELD = "SELECT true FROM billhook.leases WHERE name = $1 AND holder = $2 FOR KEY SHARE"
_GIVE_BACK = "DELETE FROM billhook.leases WHERE name = $1 AND holder = $2"


class Busy(BillhookError):
    """409: another process, such as a running sync, held the lease for too long."""

    status = 409
    code = "DATABASE_DUPLICATE"


class LeaseLost(BillhookError):
    """503: another process took over or revoked the lease. Nothing more was written."""

    status = 503


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was held when this was created."""

    name: str
    holder: UUID

    async def check(self, connection: Connection) -> None:
        """Make sure, until the end of the connection's transaction, that it is still held.

        Raises:
            LeaseLost: it is not.
        """
        if not await connection.fetchval(_HELD, self.name, self.holder):
            raise LeaseLost(f"The lease {self.name} was lost.")


@asynccontextmanager
async def try_lease(database: Database, name: str) -> AsyncIterator[Lease | None]:
    """Hold the lease `name` if it is free; None if not."""
    holder = uuid4()
    async with database.connection() as connection:
        taken = bool(await connection.fetchval(_TAKE, name, holder))
    if not taken:
        yield None
        return
    renewing = asyncio.create_task(_renew(database, name, holder))
    try:
        yield Lease(name, holder)
    finally:
        renewing.cancel()
        # A lease that cannot be released expires.
        with suppress(DatabaseUnavailable, asyncpg.PostgresError):
            async with database.connection() as connection:
                await connection.execute(_GIVE_BACK, name, holder)


@asynccontextmanager
async def lease(database: Database, name: str, *, patience: float = 25.0) -> AsyncIterator[None]:
    """Hold the lease `name`; wait until it is free.

    Raises:
        Busy: it was not free within `patience` seconds.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        async with try_lease(database, name) as taken:
            if taken is not None:
                yield
                return
        if asyncio.get_running_loop().time() > deadline:
            raise Busy(
                f"Another process is still busy with {name}.",
                next_actions="Wait a moment and try again.",
            )
        await asyncio.sleep(_LOOK_EVERY)


async def take_away(connection: Connection, name: str) -> None:
    """Revoke the lease of its holder, within the connection's transaction."""
    await connection.execute("DELETE FROM billhook.leases WHERE name = $1", name)


async def _renew(database: Database, name: str, holder: UUID) -> None:
    while True:
        await asyncio.sleep(_RENEW_EVERY)
        with suppress(DatabaseUnavailable, asyncpg.PostgresError):
            async with database.connection() as connection:
                await connection.execute(_RENEW, name, holder)
