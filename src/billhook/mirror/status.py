"""The lag of the mirror and the pending work: a few reads of small tables."""

from __future__ import annotations

from datetime import UTC, datetime

from billhook.models import Gap, MirrorStatus
from billhook.postgres import Database
from billhook.settings import Environment

# A dead letter is an event whose next attempt is at infinity.
_GET = """
SELECT p.newest_at, p.applied_at, p.pulled_at, p.error, p.gap_from, p.gap_upto,
    extract(epoch FROM greatest(p.newest_at - p.applied_at, interval '0'))::bigint AS lag,
    (SELECT count(*) FROM payments.webhook_events
     WHERE provider = 'stripe' AND environment = $1 AND processing_status = 'failed') AS failed,
    (SELECT count(*) FROM billhook.event_retries
     WHERE environment = $1 AND next_at = 'infinity') AS dead,
    (SELECT pg_catalog.min(next_at) FROM billhook.event_retries
     WHERE environment = $1 AND next_at < 'infinity') AS next_retry,
    (SELECT count(*) FROM billhook.refreshes WHERE environment = $1) AS refreshes,
    i.finished_at IS NOT NULL AS imported, i.complete_from, i.environment IS NOT NULL AS importing,
    v.finished_at AS verified_at, pg_catalog.jsonb_array_length(pg_catalog.jsonb_path_query_array(
        v.result, '$.tables[*].drift[*] ? (@.repaired != true)')) AS drifting
FROM (SELECT 1) AS always
LEFT JOIN billhook.pulls p ON p.environment = $1
LEFT JOIN billhook.imports i ON i.environment = $1
LEFT JOIN billhook.verifications v ON v.environment = $1
"""


async def mirror_status(database: Database, environment: Environment) -> MirrorStatus:
    """The state of the mirror of `environment`. All times are UTC."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_GET, environment)
    assert row is not None
    gap = Gap(since=row["gap_from"], until=row["gap_upto"]) if row["gap_from"] else None
    # If nothing happened since the account was connected, nothing is missing.
    asked = row["pulled_at"] is not None
    return MirrorStatus(
        environment=environment,
        lag_seconds=(row["lag"] or 0) if asked else None,
        newest_event_at=row["newest_at"],
        applied_event_at=row["applied_at"],
        pulled_at=row["pulled_at"],
        pull_error=row["error"],
        failed_events=row["failed"],
        dead_letters=row["dead"],
        next_retry_at=row["next_retry"],
        objects_to_refresh=row["refreshes"],
        verified_at=row["verified_at"],
        drifting_objects=row["drifting"],
        gap=gap,
        history="finished" if row["imported"] else "unfinished" if row["importing"] else "none",
        history_since=(
            None
            if row["complete_from"] is None
            else datetime.fromtimestamp(row["complete_from"], UTC)
        ),
    )
