"""The ledger grows for ever, unless a retention is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from billhook.db import Database
from billhook.settings import Environment

_BATCH = 1_000
_ARCHIVE = "SELECT billhook.archive_events($1, $2, $3)"


async def archive(database: Database, environment: Environment, days: int) -> bool:
    """Put a batch of finished events away that came more than `days` days ago, into
    `billhook.archived_events`. Stripe telling of one of them again changes nothing.

    Returns:
        Whether there may be more.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    async with database.connection() as connection:
        moved: int = await connection.fetchval(_ARCHIVE, environment, before, _BATCH)
    return moved == _BATCH
