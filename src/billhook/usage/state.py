"""How far sending is, and what subjects have used."""

from __future__ import annotations

from billhook.ledger.delivery import THIN_REPORTS
from billhook.models import UsageState, UsageTotal, UsageTotals, UsageTotalsQuery
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.usage.batches import PLAIN_PLANS

_MOST = 1_000_000  # rows of one status that are counted
_STATE = """
SELECT
    (SELECT pg_catalog.count(*) FROM (
        SELECT FROM payments.usage WHERE environment = $1 AND status = 'pending' LIMIT $2) AS p)
      + b.rows AS unsent,
    coalesce(extract(epoch FROM now() - least(b.oldest_at, (
        SELECT created_at FROM payments.usage WHERE environment = $1 AND status = 'pending'
        ORDER BY created_at, id LIMIT 1))), 0)::float8 AS lag,
    (SELECT pg_catalog.count(*) FROM (
        SELECT FROM payments.usage WHERE environment = $1 AND status = 'waiting' LIMIT $2) AS w)
        AS waiting,
    (SELECT pg_catalog.count(*) FROM payments.usage
     WHERE environment = $1 AND status = 'failed') AS failed,
    (SELECT pg_catalog.count(*) FROM payments.usage
     WHERE environment = $1 AND status = 'uncertain') AS uncertain,
    (SELECT pg_catalog.count(*) FROM payments.webhook_events
     WHERE environment = $1 AND event_type = ANY ($3::text[])
       AND processing_status IN ('ignored', 'processed')
       AND received_at > now() - interval '30 days') AS error_reports
FROM (
    SELECT coalesce(pg_catalog.sum(rows), 0)::bigint AS rows, pg_catalog.min(oldest_at) AS oldest_at
    FROM billhook.usage_batches WHERE environment = $1 AND uncertain IS NULL) AS b
"""
_TOTALS = """
SELECT $1 AS environment, $2 AS subject_type, $3 AS subject_id, used.meter, t.subscription_id,
    t.period_start, t.period_end, t.quantity, t.count, t.sum, t.last, t.unsent
FROM payments.usage_meters($1::text, $2::text, $3::text) AS used(meter)
CROSS JOIN LATERAL payments.usage_total($1::text, $2::text, $3::text, used.meter) AS t
WHERE $4::text IS NULL OR used.meter = $4
ORDER BY used.meter
"""


async def usage_state(database: Database, environment: Environment) -> UsageState:
    """How far sending is in `environment`."""
    async with database.as_service() as connection:
        await connection.execute(PLAIN_PLANS)
        row = await connection.fetchrow(_STATE, environment, _MOST, sorted(THIN_REPORTS))
    assert row is not None
    return UsageState(
        environment=environment,
        unsent=row["unsent"],
        lag_seconds=max(0, int(row["lag"])),
        waiting=row["waiting"],
        failed=row["failed"],
        uncertain=row["uncertain"],
        error_reports=row["error_reports"],
    )


async def totals(
    database: Database, environment: Environment, query: UsageTotalsQuery
) -> UsageTotals:
    """What a subject has used of each meter in its current period."""
    async with database.as_service() as connection:
        await connection.execute(PLAIN_PLANS)
        rows = await connection.fetch(
            _TOTALS, environment, query.subject_type, query.subject_id, query.meter
        )
    return UsageTotals(totals=[UsageTotal(**row) for row in rows])
