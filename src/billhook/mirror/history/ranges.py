"""The stored state of an import: what was requested, and how far each part of each list is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from billhook.kinds.reading import timestamp
from billhook.mirror.history.lists import LISTINGS
from billhook.mirror.sync.ranges import OLDEST
from billhook.postgres import Connection
from billhook.postgres.leases import take_away
from billhook.settings import Environment

_IMPORT = """
SELECT since, upto, begins, started_at, resumed_at, resumed_read, finished_at, complete_from,
    skipped, error, next_at <= now() AS is_due,
    CASE WHEN finished_at IS NULL AND next_at > now() THEN next_at END AS retry_at
FROM billhook.imports WHERE environment = $1
"""
# A new account has none, as soon as it was synced.
_AUTOMATIC = """
INSERT INTO billhook.imports (environment, since)
SELECT s.environment, $2::bigint FROM billhook.syncs s
JOIN payments.provider_connections c ON c.provider = 'stripe' AND c.environment = s.environment
WHERE s.environment = $1 AND s.finished_at IS NOT NULL AND c.status = 'connected'
ON CONFLICT DO NOTHING
"""
_IS_DUE = """
SELECT EXISTS (
    SELECT FROM billhook.imports
    WHERE environment = $1 AND finished_at IS NULL AND next_at <= now())
"""
_REQUEST = """
INSERT INTO billhook.imports AS i (environment, since) VALUES ($1, $2)
ON CONFLICT (environment) DO UPDATE SET
    since = EXCLUDED.since, upto = NULL, started_at = now(), finished_at = NULL, skipped = 0,
    resumed_at = NULL, resumed_read = 0, failures = 0, error = NULL, next_at = now()
WHERE $3 OR i.finished_at IS NOT NULL OR i.since > EXCLUDED.since
RETURNING true
"""
_CONTINUE = """
UPDATE billhook.imports SET next_at = now() WHERE environment = $1 AND finished_at IS NULL
"""
_FORGET_RANGES = "DELETE FROM billhook.import_ranges WHERE environment = $1"
_BEGIN = """
UPDATE billhook.imports SET upto = $2, begins = (
    SELECT extract(epoch FROM pg_catalog.min(provider_created_at))::bigint FROM payments.customers
    WHERE provider = 'stripe' AND environment = $1)
WHERE environment = $1
"""
_RESUMED = """
UPDATE billhook.imports SET
    resumed_at = now(), error = CASE WHEN skipped > 0 THEN error END, resumed_read = (
    SELECT coalesce(pg_catalog.sum(objects), 0) FROM billhook.import_ranges WHERE environment = $1)
WHERE environment = $1
"""
_RANGES = """
SELECT id, list AS of, since, upto, after, reached, objects, written, done
FROM billhook.import_ranges WHERE environment = $1 ORDER BY id
"""
_ADD_RANGE = """
INSERT INTO billhook.import_ranges (environment, list, since, upto, reached)
VALUES ($1, $2, $3, $4, $4)
RETURNING id
"""
_READ = """
UPDATE billhook.import_ranges
SET since = $2, upto = $3, after = $4, reached = $5, objects = $6, written = $7, done = $8
WHERE id = $1
"""
_SKIPPED = """
UPDATE billhook.imports SET skipped = skipped + 1, error = $2 WHERE environment = $1
"""
_FINISHED = """
UPDATE billhook.imports SET
    finished_at = now(), failures = 0, complete_from = least(since, complete_from),
    error = CASE WHEN skipped > 0 THEN error END
WHERE environment = $1
"""
_FAILED = """
UPDATE billhook.imports SET
    failures = failures + 1, error = $2,
    next_at = now() + least(billhook.backoff(failures), interval '5 minutes')
WHERE environment = $1 AND finished_at IS NULL
"""

_MARGIN = 60
"""Seconds: what was created since Stripe's last known time is read as well."""


def lease_name(environment: Environment) -> str:
    """The lease of a running import; a change of the key revokes it."""
    return f"import:{environment}"


@dataclass(slots=True)
class Range:
    """Objects of one list created in [since, upto), of which those up to `after` are read.

    Attributes:
        of: the name of its list.
        reached: when the object `after` was created; `upto` before the first.
    """

    id: int
    of: str
    since: int
    upto: int
    after: str | None
    reached: int
    objects: int = 0
    written: int = 0
    done: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """The request for the rest of it."""
        return {**LISTINGS[self.of].params, "created": {"gte": self.since, "lt": self.upto}}

    def note(self, objects: Sequence[Mapping[str, Any]], written: int) -> None:
        """Its next page was read and written."""
        if objects:
            self.after = objects[-1]["id"]
            created = timestamp(objects[-1].get("created")) or self.reached
            self.reached = max(self.since, min(created, self.reached))
        self.objects += len(objects)
        self.written += written

    def forget_cursor(self) -> None:
        """The object `after` no longer exists: continue with those created in the same second,
        which may have been read."""
        self.upto, self.after = self.reached + 1, None

    def split(self, objects: Sequence[Mapping[str, Any]]) -> Range | None:
        """The older half of what remains after a page, or None if it cannot be split."""
        oldest = timestamp(objects[-1].get("created"))
        if oldest is None or oldest - self.since < 2:
            return None
        middle = (self.since + oldest) // 2
        return Range(0, self.of, self.since, middle, None, middle)


async def automatic(connection: Connection, environment: Environment) -> None:
    """Request the import of a newly connected account that was synced."""
    await connection.execute(_AUTOMATIC, environment, OLDEST)


async def is_due(connection: Connection, environment: Environment) -> bool:
    """Whether an import waits to be begun or continued."""
    return bool(await connection.fetchval(_IS_DUE, environment))


async def find(connection: Connection, environment: Environment) -> asyncpg.Record | None:
    """The running or last import."""
    return await connection.fetchrow(_IMPORT, environment)


async def request(
    connection: Connection, environment: Environment, since: int, *, from_scratch: bool = False
) -> None:
    """Begin an import, or continue the one that is not finished, if it goes as far back.

    Args:
        from_scratch: begin one in any case.
    """
    if await connection.fetchval(_REQUEST, environment, since, from_scratch):
        await take_away(connection, lease_name(environment))
        await connection.execute(_FORGET_RANGES, environment)
    else:
        await connection.execute(_CONTINUE, environment)


async def begin(connection: Connection, environment: Environment, now: int) -> list[Range]:
    """The ranges to read: those of the import as far as it got, or else whole lists.

    Args:
        now: Stripe's time.
    """
    ranges = await ranges_of(connection, environment)
    found = await find(connection, environment)
    if not ranges and found is not None:
        await connection.execute(_BEGIN, environment, now)
        for name in LISTINGS:
            part = Range(0, name, found["since"], now + _MARGIN, None, now + _MARGIN)
            await add(connection, environment, part)
            ranges.append(part)
    await connection.execute(_RESUMED, environment)
    return [each for each in ranges if not each.done]


async def ranges_of(connection: Connection, environment: Environment) -> list[Range]:
    """All ranges, read or not."""
    return [Range(**row) for row in await connection.fetch(_RANGES, environment)]


async def add(connection: Connection, environment: Environment, part: Range) -> None:
    """Store a new range, and set its id."""
    part.id = await connection.fetchval(_ADD_RANGE, environment, part.of, part.since, part.upto)


async def save(connection: Connection, part: Range) -> None:
    """Store how far a range is read."""
    await connection.execute(
        _READ,
        *(part.id, part.since, part.upto, part.after, part.reached),
        *(part.objects, part.written, part.done),
    )


async def skipped(connection: Connection, environment: Environment, reason: str) -> None:
    """Count an object that could not be written."""
    await connection.execute(_SKIPPED, environment, reason)


async def finished(connection: Connection, environment: Environment) -> None:
    """Everything was read."""
    await connection.execute(_FINISHED, environment)


async def failed(connection: Connection, environment: Environment, reason: str) -> None:
    """Schedule the continuation of an import that was interrupted by an error."""
    await connection.execute(_FAILED, environment, reason)
