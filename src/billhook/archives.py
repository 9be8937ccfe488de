"""Archives: the rows of a Stripe account that is no longer connected (contract section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from billhook.db import Database
from billhook.errors import BillhookError, NotFound
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
_RESTORE = "SELECT billhook.restore($1, $2)"
_TIMEOUT = 3600.0  # seconds: every row of the account is moved
_CONNECTED = """
UPDATE payments.provider_connections SET provider_account_id = $2
WHERE provider = 'stripe' AND environment = $1
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """What was put away when another account was connected. Restored ones are empty."""

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
    """Bring an archive's rows back. Rows that stand in their place are archived first.

    Returns:
        How many rows came back.

    Raises:
        NotFound: no such archive, or one that was restored already.
        BillhookError: 409, another account is connected: its sync would undo the restoration.
    """
    async with database.as_service() as connection:
        row = await connection.fetchrow(_ACCOUNTS, archive_id)
        if row is None:
            raise NotFound(
                f"There is no archive {archive_id} to restore.",
                next_actions="`billhook archive list` shows them.",
            )
        if row["status"] == "connected" and row["connected"] != row["archived"]:
            raise BillhookError(
                f"The archive is of account {row['archived']}, but {row['connected']} is "
                "connected.",
                status=409,
                code="DATABASE_DUPLICATE",
                next_actions="Set a key of the archived account first, or remove the present one.",
            )
        restored: int = await connection.fetchval(
            _RESTORE, archive_id, row["connected"], timeout=_TIMEOUT
        )
        await connection.execute(_CONNECTED, row["environment"], row["archived"])
    return restored
