"""Archives: the rows of a Stripe account that is no longer connected (contract section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from billhook.account.connections import lock_account, stop_readers
from billhook.errors import BillhookError, NotFound
from billhook.mirror.rebuild import hold_writers, rebuild_in
from billhook.mirror.rebuild.fresh import PATIENCE
from billhook.postgres import Database, repeat_collisions
from billhook.settings import Environment

_LIST = """
SELECT id, environment, account_id, archived_at, restored_at FROM billhook.archives
ORDER BY archived_at DESC
"""
_ACCOUNTS = """
SELECT a.environment, a.account_id AS archived, c.provider_account_id AS connected, c.status
FROM billhook.archives a
LEFT JOIN payments.provider_connections c
    ON c.provider = 'stripe' AND c.environment = a.environment
WHERE a.id = $1 AND a.restored_at IS NULL
FOR UPDATE OF a
"""
_ENVIRONMENT = "SELECT environment FROM billhook.archives WHERE id = $1"
_RESTORE = "SELECT billhook.restore($1, $2)"
_CONNECTED = """
UPDATE payments.provider_connections SET provider_account_id = $2
WHERE provider = 'stripe' AND environment = $1
"""
# The rows that the restored rows replaced.
_PRESENT = "SELECT id FROM billhook.archives WHERE environment = $1 AND archived_at = now()"


@dataclass(frozen=True, slots=True)
class Archive:
    """The rows archived when another account was connected. Restored archives are empty."""

    id: UUID
    environment: Environment
    account_id: str | None
    archived_at: datetime
    restored_at: datetime | None


async def archives(database: Database) -> list[Archive]:
    """All archives, the newest first."""
    async with database.connection() as connection:
        return [Archive(**row) for row in await connection.fetch(_LIST)]


async def restore(database: Database, archive_id: UUID) -> int:
    """Restore an archive's rows. Rows that stand in their place are archived first. What came of
    the same account since it was connected again is kept: the environment is rebuilt from the
    ledger, while writers wait.

    Returns:
        How many rows were restored.

    Raises:
        NotFound: no such archive, or one that was restored already.
        BillhookError: 409, another account is connected: its sync would undo the restoration.
    """
    return await repeat_collisions(partial(_restore, database, archive_id))


async def _restore(database: Database, archive_id: UUID) -> int:
    async with database.as_service() as connection:
        # Locked as a change of the account locks: until the end, the account stays the same. A
        # running sync starts over, because what it has written may be replaced here.
        environment = await connection.fetchval(_ENVIRONMENT, archive_id)
        if environment is not None:
            await stop_readers(connection, environment)
            await lock_account(connection, environment)
        row = await connection.fetchrow(_ACCOUNTS, archive_id)
        if row is None:
            raise NotFound(
                f"There is no archive {archive_id} to restore.",
                next_actions="`billhook archive list` shows them.",
            )
        if row["status"] != "unconfigured" and row["connected"] != row["archived"]:
            raise BillhookError(
                f"The archive is of account {row['archived']}, but {row['connected']} is "
                "connected.",
                status=409,
                code="DATABASE_DUPLICATE",
                next_actions="Set a key of the archived account first, or remove the current one.",
            )
        await hold_writers(connection)
        restored: int = await connection.fetchval(
            _RESTORE, archive_id, row["connected"], timeout=PATIENCE
        )
        if row["connected"] == row["archived"]:
            # What came since then, to the rows in whose place these came back, is not lost.
            present = await connection.fetchval(_PRESENT, row["environment"])
            await rebuild_in(connection, row["environment"], archive=present)
        await connection.execute(_CONNECTED, row["environment"], row["archived"])
    return restored
