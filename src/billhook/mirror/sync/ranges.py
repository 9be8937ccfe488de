"""What a sync reads: lists, in ranges of `created` with stored state, so that it can continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import asyncpg

from billhook.kinds import KINDS, Kind
from billhook.kinds.reading import timestamp
from billhook.mirror import fetching
from billhook.postgres import Database
from billhook.postgres.leases import Lease
from billhook.rows import Fact, apply_facts
from billhook.settings import Environment
from billhook.stripe.gateway import StripeObject

OLDEST = 1_293_840_000
"""2011: Stripe has nothing older, so ranges are split above it."""


LISTINGS = {kind.plural: kind for kind in KINDS.values() if kind.has_list}
"""The kinds that a sync reads, by the name of their list."""

_BEGIN = """
INSERT INTO billhook.syncs AS s (environment) VALUES ($1)
ON CONFLICT (environment) DO UPDATE SET started_at = now(), finished_at = NULL, result = NULL
"""
_FORGET_RANGES = "DELETE FROM billhook.sync_ranges WHERE environment = $1"
# A sync that stopped an hour ago or earlier would continue in a list that has changed too much.
_STOPPED = """
SELECT EXISTS (
    SELECT FROM billhook.syncs
    WHERE environment = $1 AND finished_at IS NULL AND started_at > now() - interval '1 hour')
"""
_RANGES = """
SELECT id, list, variant, since, upto, after, objects, done FROM billhook.sync_ranges
WHERE environment = $1 ORDER BY id
"""
_ADD_RANGE = """
INSERT INTO billhook.sync_ranges (environment, list, variant, since, upto)
VALUES ($1, $2, $3, $4, $5)
RETURNING id
"""
_READ = """
UPDATE billhook.sync_ranges SET since = $2, after = $3, objects = $4, done = $5 WHERE id = $1
"""


@dataclass(slots=True)
class Range:
    """Objects of one list created in [since, upto), of which those up to `after` are read."""

    id: int
    variant: int
    since: int
    upto: int | None
    after: str | None = None
    objects: int = 0


async def begin(
    database: Database, environment: Environment, lease: Lease
) -> tuple[dict[str, list[Range]], bool]:
    """The ranges to read, and whether they are whole lists (not those of an interrupted sync)."""
    ranges: dict[str, list[Range]] = {name: [] for name in LISTINGS}
    async with database.as_service() as connection:
        await lease.check(connection)
        stopped = await connection.fetchval(_STOPPED, environment)
        left = await connection.fetch(_RANGES, environment) if stopped else []
        if left:
            for row in left:
                if not row["done"]:
                    ranges[row["list"]].append(_range(row))
            return ranges, False
        await connection.execute(_FORGET_RANGES, environment)
        await connection.execute(_BEGIN, environment)
        for name, kind in LISTINGS.items():
            for variant in range(len(kind.variants)):
                row_id = await connection.fetchval(
                    _ADD_RANGE, environment, name, variant, OLDEST, None
                )
                ranges[name].append(Range(row_id, variant, OLDEST, None))
    return ranges, True


async def write_page(
    reader: fetching.StripeReader,
    name: str,
    facts: Sequence[Fact],
    part: Range,
    older: Range | None,
    *,
    done: bool,
) -> None:
    """Write a page of a list, the progress of its range, and the range that was split off from it,
    in one transaction.

    Raises:
        LeaseLost: another process is syncing now, or the key was changed.
    """
    async with reader.database.as_service() as connection:
        await reader.check(connection)
        await apply_facts(connection, reader.environment, facts, outside_ledger=True)
        await connection.execute(_READ, part.id, part.since, part.after, part.objects, done)
        if older is not None:
            older.id = await connection.fetchval(
                _ADD_RANGE, reader.environment, name, part.variant, older.since, older.upto
            )


def _range(row: asyncpg.Record) -> Range:
    return Range(row["id"], row["variant"], row["since"], row["upto"], row["after"], row["objects"])


def params_of(kind: Kind, part: Range) -> dict[str, Any]:
    """The request for the rest of a range."""
    created = {"gte": part.since} if part.since > OLDEST else {}
    if part.upto is not None:
        created["lt"] = part.upto
    params: dict[str, Any] = {**kind.variants[part.variant]}
    if kind.expand:
        params["expand"] = [f"data.{each}" for each in kind.expand]
    if created:
        params["created"] = created
    return params


def split(kind: Kind, part: Range, objects: list[StripeObject]) -> Range | None:
    """The older half of the rest of a range, or None if it cannot be split."""
    if not kind.by_created:
        return None
    oldest = timestamp(objects[-1].get("created"))
    if oldest is None or oldest - part.since < 2:
        return None
    middle = (part.since + oldest) // 2
    return Range(0, part.variant, part.since, middle)
