"""Archives old events, if a retention is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from billhook.db import Database
from billhook.settings import Environment

_BATCH = 1_000
_ARCHIVE = "SELECT billhook.archive_events($1, $2, $3)"


async def archive(database: Database, environment: Environment, days: int) -> bool:
    """Move a batch of finished events that arrived more than `days` days ago to
    `billhook.archived_events`. If Stripe sends one of them again, nothing changes.

    Returns:
        Whether there may be more.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    async with database.connection() as connection:
        moved: int = await connection.fetchval(_ARCHIVE, environment, before, _BATCH)
    return moved == _BATCH
