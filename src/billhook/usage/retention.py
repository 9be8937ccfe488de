"""Compacts old usage: sent rows become their totals by UTC day, so that `payments.usage_totals` and
`payments.usage_by_day` stay the same."""

from __future__ import annotations

from billhook.postgres import Database
from billhook.settings import Environment

_WINDOW = 20_000
"""Ids that are looked at in one transaction."""

_FIRST = "SELECT pg_catalog.min(id) FROM payments.usage WHERE id > $1"
# Not the day on which a current period of the subject began: a part of it belongs to the period
# before.
_COMPACT = """
WITH old AS MATERIALIZED (
    SELECT u.id, u.environment, u.meter, u.subject_type, u.subject_id,
        CASE WHEN u.subject_id IS NULL THEN u.customer_id END AS customer_id, u.value,
        u.occurred_at, (u.occurred_at AT TIME ZONE 'UTC')::date AS day
    FROM payments.usage AS u
    WHERE u.id >= $2 AND u.id < $3 AND u.environment = $1 AND u.status = 'sent'
      AND u.occurred_at < $4 AND u.created_at < $4
      AND NOT EXISTS (
          SELECT FROM payments.stripe_subscriptions AS s
          WHERE s.environment = u.environment AND s.subject_type = u.subject_type
            AND s.subject_id = u.subject_id AND s.current_period_end > now()
            AND (s.current_period_start AT TIME ZONE 'UTC')::date
                = (u.occurred_at AT TIME ZONE 'UTC')::date)
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM payments.usage AS u USING old WHERE u.id = old.id RETURNING old.*
), newest AS (
    SELECT DISTINCT ON (environment, meter, subject_type, subject_id, customer_id, day)
        environment, meter, subject_type, subject_id, customer_id, day, value, occurred_at
    FROM gone
    ORDER BY environment, meter, subject_type, subject_id, customer_id, day, occurred_at DESC,
        id DESC
), days AS (
    SELECT g.environment, g.meter, g.subject_type, g.subject_id, g.customer_id, g.day,
        pg_catalog.count(*) AS count, pg_catalog.sum(g.value) AS sum, n.value AS last,
        n.occurred_at AS last_at
    FROM gone AS g JOIN newest AS n
      ON n.environment = g.environment AND n.meter = g.meter AND n.day = g.day
     AND n.subject_type IS NOT DISTINCT FROM g.subject_type
     AND n.subject_id IS NOT DISTINCT FROM g.subject_id
     AND n.customer_id IS NOT DISTINCT FROM g.customer_id
    GROUP BY g.environment, g.meter, g.subject_type, g.subject_id, g.customer_id, g.day, n.value,
        n.occurred_at
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
SELECT pg_catalog.count(*) FROM gone
"""
_ADDED = """count = d.count + EXCLUDED.count, sum = d.sum + EXCLUDED.sum,
        last = CASE WHEN EXCLUDED.last_at >= d.last_at THEN EXCLUDED.last ELSE d.last END,
        last_at = greatest(d.last_at, EXCLUDED.last_at)"""
_COMPACT_ALL = _COMPACT.format(added=_ADDED)
_CUTOFF = "SELECT now() - pg_catalog.make_interval(days => $1)"
_OLDER = "SELECT EXISTS (SELECT FROM payments.usage WHERE id >= $1 AND id < $2 AND created_at < $3)"


async def compact(database: Database, environment: Environment, days: int) -> bool:
    """Compact what was sent and is older than `days` days. Rows that were not sent stay.

    Returns:
        False: everything is done.
    """
    async with database.connection() as connection:
        cutoff = await connection.fetchval(_CUTOFF, days)
        first = await connection.fetchval(_FIRST, 0)
    while first is not None:
        beyond = first + _WINDOW
        async with database.as_service() as connection:
            if not await connection.fetchval(_OLDER, first, beyond, cutoff):
                return False  # ids ascend with time
            await connection.fetchval(_COMPACT_ALL, environment, first, beyond, cutoff)
            first = await connection.fetchval(_FIRST, beyond - 1)
    return False
