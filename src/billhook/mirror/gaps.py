"""Gaps: periods whose events Stripe no longer lists (docs/explanation/recovery.md).

A gap is stored before the puller's cursor passes it, and stays due until it is filled: mirrored
objects by a sync, payments by an import. Whatever interrupts or replaces those, others follow.
"""

from __future__ import annotations

from billhook.mirror.sync.ranges import OLDEST
from billhook.postgres import Connection, Database
from billhook.settings import Environment

_BEFORE = 30 * 86_400
"""Seconds: a payment that was authorized this long before a gap may have been captured in it."""

_FOUND = """
UPDATE billhook.pulls SET
    gap_from = pg_catalog.to_timestamp($2::bigint),
    gap_upto = pg_catalog.to_timestamp($3::bigint),
    cursor_at = greatest(cursor_at, pg_catalog.to_timestamp($3::bigint)),
    resync_at = coalesce(resync_at, now()),
    import_since = least(import_since, $4::bigint)
WHERE environment = $1
"""
_SYNC_IS_DUE = """
SELECT EXISTS (SELECT FROM billhook.pulls WHERE environment = $1 AND resync_at <= now())
"""
_SYNCED = """
UPDATE billhook.pulls
SET resync_at = CASE WHEN NOT $2::boolean THEN now() + interval '1 hour' END
WHERE environment = $1 AND resync_at <= now()
"""
# An import that began after the gap, from early enough on, fills it. One that is neither finished
# nor early enough is extended.
_IMPORT_DUE = """
SELECT least(p.import_since, CASE WHEN i.finished_at IS NULL THEN i.since END) AS since
FROM billhook.pulls p JOIN billhook.imports i USING (environment)
WHERE p.environment = $1 AND p.import_since IS NOT NULL
  AND (i.since > p.import_since OR i.upto < extract(epoch FROM p.gap_upto))
FOR NO KEY UPDATE OF i
"""
_IMPORTED = """
UPDATE billhook.pulls p SET import_since = NULL
FROM billhook.imports i
WHERE p.environment = $1 AND i.environment = $1 AND i.finished_at IS NOT NULL
  AND i.since <= p.import_since AND i.upto >= extract(epoch FROM p.gap_upto)
"""


async def found(connection: Connection, environment: Environment, since: int, upto: int) -> None:
    """Store a gap, and move the puller's cursor to its end.

    Args:
        since, upto: Stripe's time, as epoch seconds.
    """
    first = max(OLDEST, since - _BEFORE)
    await connection.execute(_FOUND, environment, since, upto, first)
    await imported(connection, environment)


async def sync_is_due(database: Database, environment: Environment) -> bool:
    """Whether a gap needs a sync."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_SYNC_IS_DUE, environment))


async def synced(database: Database, environment: Environment, *, complete: bool) -> None:
    """A sync has ended. If it was incomplete, another one is due in an hour."""
    async with database.connection() as connection:
        await connection.execute(_SYNCED, environment, complete)


async def import_due(connection: Connection, environment: Environment) -> int | None:
    """Since when a gap needs an import that the running or last one does not replace; None if
    there is no such gap, or nothing was imported yet: the first import covers everything. Until the
    end of the transaction, no other import is requested."""
    since: int | None = await connection.fetchval(_IMPORT_DUE, environment)
    return since


async def imported(connection: Connection, environment: Environment) -> None:
    """If the last import is finished and covers the gap, the gap needs no other."""
    await connection.execute(_IMPORTED, environment)
