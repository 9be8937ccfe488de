"""Retries of failed events, whether or not Stripe sends them again.

The first retry comes 5 seconds after the failure (the default of `billhook.event_retries.next_at`),
the next ones after `billhook.backoff`: doubled each time, up to 6 hours. After
`settings.retry_attempts` (20) the event is a dead letter.
"""

from __future__ import annotations

import orjson
import structlog

from billhook.errors import ObjectLocked
from billhook.ledger import EventNotApplied, EventNotRecorded, Ledger, OtherAccount, decode
from billhook.postgres import Database
from billhook.settings import Environment

log = structlog.get_logger(__name__)

# The next retry is scheduled before the event is tried, so that others take over if the worker
# dies. One event at a time, so that its outcome does not affect the schedule of the others.
_CLAIM = """
WITH due AS (
    SELECT environment, event_id FROM billhook.event_retries
    WHERE next_at <= now() ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE billhook.event_retries r SET
        attempts = r.attempts + 1,
        next_at = CASE WHEN r.attempts + 1 >= $1 THEN 'infinity'
                       ELSE now() + billhook.backoff(r.attempts + 1) END
    FROM due WHERE r.environment = due.environment AND r.event_id = due.event_id
    RETURNING r.environment, r.event_id, r.attempts
)
SELECT c.*, e.payload FROM claimed c
JOIN payments.webhook_events e
  ON e.provider = 'stripe' AND e.environment = c.environment AND e.provider_event_id = c.event_id
"""
# A trigger of the app may have written the status itself, or discarded Billhook's update.
_TAKE_UP = """
INSERT INTO billhook.event_retries (environment, event_id)
SELECT environment, provider_event_id FROM payments.webhook_events e
WHERE provider = 'stripe' AND environment = $1 AND processing_status IN ('failed', 'pending')
  AND updated_at < now() - interval '1 minute'
  -- Later than adopted.
  AND updated_at >= (SELECT pg_catalog.min(applied_at) FROM billhook.migrations)
  AND NOT EXISTS (
      SELECT FROM billhook.events_of_others($1) o WHERE o.event_id = e.provider_event_id)
  AND NOT EXISTS (
      SELECT FROM billhook.event_retries r
      WHERE r.environment = e.environment AND r.event_id = e.provider_event_id)
ON CONFLICT DO NOTHING
"""


async def take_up(database: Database, environment: Environment) -> None:
    """Make sure that each unfinished event is scheduled for a retry."""
    async with database.connection() as connection:
        await connection.execute(_TAKE_UP, environment)


async def retry_due(ledger: Ledger, most_attempts: int) -> bool:
    """Retry the failed event that has been due longest, as on its first delivery.

    Args:
        most_attempts: after this many attempts, the event is a dead letter until it is replayed.

    Returns:
        Whether more may be due.

    Raises:
        DatabaseUnavailable: PostgreSQL is unavailable, or a trigger of the app makes it appear so.
    """
    async with ledger.database.connection() as connection:
        row = await connection.fetchrow(_CLAIM, most_attempts)
    if row is None:
        return False
    delivery = decode(orjson.dumps(row["payload"]))
    try:
        await ledger.record(row["environment"], delivery)
    except (EventNotApplied, EventNotRecorded, OtherAccount, ObjectLocked) as error:
        log.warning(
            "event failed again",
            environment=row["environment"],
            event_id=row["event_id"],
            attempt=row["attempts"],
            last=row["attempts"] >= most_attempts,
            reason=error.message,
        )
    else:
        log.info("event recovered", environment=row["environment"], event_id=row["event_id"])
    return True
