"""The ledger grows for ever, unless a retention is set; what transactions changed of their days'
totals is added to them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from billhook.db import Database
from billhook.settings import Environment

_BATCH = 1_000
_ARCHIVE = "SELECT billhook.archive_events($1, $2, $3)"
_CHANGES = 50_000
_FOLD = "SELECT billhook.fold_changes($1)"


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


async def fold(database: Database) -> bool:
    """Add a batch of what changed to the totals of the days (docs/decisions/0007-daily-totals.md).

    Returns:
        Whether there may be more.
    """
    async with database.connection() as connection:
        folded: int = await connection.fetchval(_FOLD, _CHANGES)
    return folded >= _CHANGES
