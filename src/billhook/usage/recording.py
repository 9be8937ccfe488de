"""Records usage for apps that don't share the database."""

from __future__ import annotations

from typing import Any

import asyncpg

from billhook.errors import DatabaseDuplicate, InvalidInput
from billhook.models import RecordedUsage, RecordUsage, UsageInput
from billhook.postgres import Connection, Database
from billhook.settings import Environment

_NAMED = """
INSERT INTO payments.usage (environment, meter, subject_type, subject_id, customer_id, value,
    payload, occurred_at, identifier)
SELECT $1, given ->> 'meter'::text, given ->> 'subject_type'::text, given ->> 'subject_id'::text,
    given ->> 'customer_id'::text, (given ->> 'value'::text)::bigint,
    nullif(given -> 'payload'::text, 'null'::jsonb),
    coalesce((given ->> 'occurred_at'::text)::timestamptz, now()), given ->> 'identifier'::text
FROM pg_catalog.jsonb_array_elements($2::jsonb) AS given
ON CONFLICT (environment, identifier) DO NOTHING
RETURNING 1
"""
_UNNAMED = """
INSERT INTO payments.usage (environment, meter, subject_type, subject_id, customer_id, value,
    payload, occurred_at)
SELECT $1, given ->> 'meter'::text, given ->> 'subject_type'::text, given ->> 'subject_id'::text,
    given ->> 'customer_id'::text, (given ->> 'value'::text)::bigint,
    nullif(given -> 'payload'::text, 'null'::jsonb),
    coalesce((given ->> 'occurred_at'::text)::timestamptz, now())
FROM pg_catalog.jsonb_array_elements($2::jsonb) AS given
RETURNING 1
"""
_OTHERS = """
SELECT DISTINCT u.identifier
FROM pg_catalog.jsonb_array_elements($2::jsonb) AS given
JOIN payments.usage AS u
  ON u.environment = $1 AND u.identifier = given ->> 'identifier'::text
WHERE u.meter <> given ->> 'meter'::text
   OR u.value <> (given ->> 'value'::text)::bigint
   OR u.subject_type IS DISTINCT FROM given ->> 'subject_type'::text
   OR u.subject_id IS DISTINCT FROM given ->> 'subject_id'::text
   OR u.customer_id IS DISTINCT FROM given ->> 'customer_id'::text
   OR coalesce(u.payload, 'null'::jsonb) <> given -> 'payload'::text
   OR u.occurred_at <> (given ->> 'occurred_at'::text)::timestamptz
ORDER BY 1 LIMIT 5
"""


async def record(database: Database, environment: Environment, order: RecordUsage) -> RecordedUsage:
    """Insert all of it, or nothing. What has an identifier that is known is not inserted again.

    Raises:
        DatabaseDuplicate: other usage has one of the identifiers.
        InvalidInput: the table does not take it.
    """
    given = [_row(each) for each in order.usage]
    named = [each for each in given if each["identifier"] is not None]
    unnamed = [each for each in given if each["identifier"] is None]
    try:
        async with database.as_service() as connection:
            recorded = 0
            if unnamed:
                recorded += len(await connection.fetch(_UNNAMED, environment, unnamed))
            if named:
                recorded += await _record_named(connection, environment, named)
    except asyncpg.CheckViolationError as error:
        raise InvalidInput(f"usage: {error.constraint_name} is violated") from error
    return RecordedUsage(recorded=recorded, duplicates=len(given) - recorded)


async def _record_named(
    connection: Connection, environment: Environment, named: list[dict[str, Any]]
) -> int:
    recorded = len(await connection.fetch(_NAMED, environment, named))
    if others := await connection.fetch(_OTHERS, environment, named):
        identifiers = ", ".join(row["identifier"] for row in others)
        raise DatabaseDuplicate(
            f"Other usage was recorded with these identifiers: {identifiers}. Nothing was recorded "
            "now.",
            next_actions="Use one identifier for one fact, such as the id of a request.",
        )
    return recorded


def _row(given: UsageInput) -> dict[str, Any]:
    subject, at = given.subject, given.occurred_at
    return {
        "meter": given.meter,
        "subject_type": subject and subject.type,
        "subject_id": subject and subject.id,
        "customer_id": given.customer_id,
        "value": given.value,
        "payload": given.payload,
        "occurred_at": at and at.isoformat(),
        "identifier": given.identifier,
    }
