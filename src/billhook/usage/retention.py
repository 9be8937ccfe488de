"""Compacts old usage: sent rows become their totals by UTC day, so that `payments.usage_totals` and
`payments.usage_by_day` stay the same."""

from __future__ import annotations

from datetime import UTC, datetime

from billhook.mirror.archives import ADDED_DAY
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.usage.batches import PLAIN_PLANS

_PAGE = 20_000
"""Rows that are looked at in one transaction."""

_METERS = """
WITH RECURSIVE meters(meter) AS (
    (SELECT meter FROM payments.usage WHERE environment = $1 AND status = 'sent'
     ORDER BY meter LIMIT 1)
    UNION ALL
    SELECT following.meter FROM meters AS m CROSS JOIN LATERAL (
        SELECT u.meter FROM payments.usage AS u
        WHERE u.environment = $1 AND u.status = 'sent' AND u.meter > m.meter
        ORDER BY u.meter LIMIT 1) AS following
)
SELECT meter FROM meters
"""
# Not the day on which a current period of the subject began: a part of it belongs to the period
# before.
_COMPACT = """
WITH page AS MATERIALIZED (
    SELECT id, occurred_at FROM payments.usage
    WHERE environment = $1 AND meter = $2 AND status = 'sent' AND occurred_at < $3
      AND (occurred_at, id) > ($4, $5)
    ORDER BY occurred_at, id LIMIT $6
), old AS MATERIALIZED (
    SELECT u.id, u.environment, u.meter, u.subject_type, u.subject_id,
        CASE WHEN u.subject_id IS NULL THEN u.customer_id END AS customer_id, u.value,
        u.occurred_at, (u.occurred_at AT TIME ZONE 'UTC')::date AS day
    FROM page JOIN payments.usage AS u ON u.id = page.id
    WHERE u.created_at < $3
      AND NOT EXISTS (
          SELECT FROM payments.stripe_subscriptions AS s
          WHERE s.environment = u.environment AND s.subject_type = u.subject_type
            AND s.subject_id = u.subject_id AND s.current_period_end > now()
            AND (s.current_period_start AT TIME ZONE 'UTC')::date
                = (u.occurred_at AT TIME ZONE 'UTC')::date)
    FOR UPDATE OF u SKIP LOCKED
), gone AS (
    DELETE FROM payments.usage AS u USING old WHERE u.id = old.id RETURNING old.*
), days AS (
    SELECT environment, meter, subject_type, subject_id, customer_id, day,
        pg_catalog.count(*) AS count, pg_catalog.sum(value) AS sum,
        (pg_catalog.array_agg(value ORDER BY occurred_at DESC, id DESC))[1] AS last,
        pg_catalog.max(occurred_at) AS last_at
    FROM gone GROUP BY environment, meter, subject_type, subject_id, customer_id, day
), of_subjects AS (
    INSERT INTO payments.usage_days AS d
        (environment, meter, subject_type, subject_id, customer_id, day, count, sum, last, last_at)
    SELECT * FROM days WHERE subject_id IS NOT NULL
    ON CONFLICT (environment, subject_type, subject_id, meter, day) WHERE subject_id IS NOT NULL
    DO UPDATE SET {added}
), of_customers AS (
    INSERT INTO payments.usage_days AS d
        (environment, meter, subject_type, subject_id, customer_id, day, count, sum, last, last_at)
    SELECT * FROM days WHERE subject_id IS NULL
    ON CONFLICT (environment, customer_id, meter, day) WHERE subject_id IS NULL
    DO UPDATE SET {added}
)
SELECT occurred_at, id FROM page ORDER BY occurred_at, id OFFSET $6 - 1
"""
_COMPACT_ALL = _COMPACT.format(added=ADDED_DAY.format(more="EXCLUDED"))
_CUTOFF = "SELECT now() - pg_catalog.make_interval(days => $1)"
_BEFORE_ALL = (datetime.min.replace(tzinfo=UTC), 0)


async def compact(database: Database, environment: Environment, days: int) -> bool:
    """Compact what was sent and is older than `days` days. Rows that were not sent stay.

    Returns:
        False: everything is done.
    """
    async with database.as_service() as connection:
        await connection.execute(PLAIN_PLANS)
        cutoff = await connection.fetchval(_CUTOFF, days)
        meters = [row["meter"] for row in await connection.fetch(_METERS, environment)]
    for meter in meters:
        after: tuple[datetime, int] | None = _BEFORE_ALL
        while after is not None:
            async with database.as_service() as connection:
                await connection.execute(PLAIN_PLANS)
                row = await connection.fetchrow(
                    _COMPACT_ALL, environment, meter, cutoff, *after, _PAGE
                )
            after = None if row is None else (row["occurred_at"], row["id"])
    return False
