"""Archives old events, if a retention is set."""

from __future__ import annotations

from billhook.postgres import Database
from billhook.settings import Environment

_BATCH = 1_000
# If a foreign key of the app refers to one of the events, PostgreSQL raises an error, and all of
# them stay.
_ARCHIVE = """
WITH old AS (
    SELECT id FROM payments.webhook_events
    WHERE environment = $1 AND received_at < now() - pg_catalog.make_interval(days => $2)
      AND provider = 'stripe'
      AND processing_status IN ('processed', 'ignored')
    ORDER BY received_at LIMIT $3 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM payments.webhook_events e USING old WHERE e.id = old.id
    RETURNING e.environment, e.provider_event_id, pg_catalog.to_jsonb(e) AS content
), kept AS (
    INSERT INTO billhook.archived_events (environment, event_id, content)
    SELECT environment, provider_event_id, content FROM gone
    RETURNING 1
)
SELECT count(*) FROM kept
"""


async def archive(
    database: Database, environment: Environment, days: int, most: int = _BATCH
) -> bool:
    """Move a limited number of finished events that arrived more than `days` days ago to
    `billhook.archived_events`. If Stripe sends one of them again, nothing changes.

    Returns:
        Whether there may be more.
    """
    async with database.connection() as connection:
        moved: int = await connection.fetchval(_ARCHIVE, environment, days, most)
    return moved == most
