"""Usage that was not sent: an admin has it sent again, or says that Stripe has it."""

from __future__ import annotations

from billhook.models import RetriedUsage, RetryUsage
from billhook.postgres import Database
from billhook.settings import Environment

_FAILED = """
UPDATE payments.usage AS u SET status = 'pending', sent_as = NULL, last_error = NULL
WHERE u.id IN (
    SELECT x.id FROM payments.usage AS x
    WHERE x.environment = $1 AND x.status = 'failed'
      AND ($2::text[] IS NULL OR x.id::text = ANY ($2))
      AND ($3::text IS NULL OR x.meter = $3)
    ORDER BY x.id LIMIT $4 FOR UPDATE SKIP LOCKED)
RETURNING 1
"""
# An event counts all of its rows or none, so it is decided about all of them.
_EVENTS = """
SELECT DISTINCT x.sent_as FROM payments.usage AS x
WHERE x.environment = $1 AND x.status = 'uncertain'
  AND ($2::text[] IS NULL OR x.id::text = ANY ($2))
  AND ($3::text IS NULL OR x.meter = $3)
ORDER BY x.sent_as LIMIT $4
"""
_SEND_AGAIN = """
WITH again AS (
    UPDATE billhook.usage_batches AS b SET uncertain = NULL, attempts = 0, next_at = now(),
        events = pg_catalog.jsonb_set(b.events, '{0,unsure_since}'::text[], 'null'::jsonb)
    WHERE b.environment = $1 AND b.uncertain = ANY ($2::text[])
    RETURNING b.events
)
UPDATE payments.usage AS u SET status = 'sending', last_error = NULL
FROM again, pg_catalog.jsonb_array_elements_text(again.events -> 0 -> 'rows'::text) AS row_id
WHERE u.id = row_id::bigint AND u.status = 'uncertain'
RETURNING 1
"""
_COUNTED = """
WITH counted AS (
    DELETE FROM billhook.usage_batches AS b
    WHERE b.environment = $1 AND b.uncertain = ANY ($2::text[])
    RETURNING b.events
)
UPDATE payments.usage AS u SET status = 'sent', sent_at = now(), last_error = NULL
FROM counted, pg_catalog.jsonb_array_elements_text(counted.events -> 0 -> 'rows'::text) AS row_id
WHERE u.id = row_id::bigint AND u.status = 'uncertain'
RETURNING 1
"""


async def retry(database: Database, environment: Environment, order: RetryUsage) -> RetriedUsage:
    """Send usage again that Stripe rejected, or about which it is uncertain whether Stripe has it.
    Uncertain usage is decided by event: with one of its rows, the others are, too."""
    ids = None if order.ids is None else [str(each) for each in order.ids]
    async with database.as_service() as connection:
        if order.status == "failed":
            rows = await connection.fetch(_FAILED, environment, ids, order.meter, order.limit)
        else:
            found = await connection.fetch(_EVENTS, environment, ids, order.meter, order.limit)
            decide = _COUNTED if order.counted else _SEND_AGAIN
            rows = await connection.fetch(decide, environment, [row["sent_as"] for row in found])
    return RetriedUsage(retried=len(rows))
