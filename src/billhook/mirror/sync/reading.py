"""Reads one list into the mirror, and checks objects that are missing in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import asyncpg
import structlog

from billhook.errors import BillhookError
from billhook.kinds import Kind
from billhook.mirror import fetching
from billhook.mirror.sync.ranges import Range, params_of, split, write_page
from billhook.mirror.unlisted import unlisted
from billhook.postgres import repeat_collisions
from billhook.postgres.leases import LeaseLost
from billhook.postgres.providers import of_stripe
from billhook.postgres.refusals import reason_of
from billhook.rows import Fact
from billhook.stripe.gateway import StripeObject
from billhook.stripe.list_pages import ListPage, list_page
from billhook.task_groups import all_or_first_error, for_each

log = structlog.get_logger(__name__)

_AT_ONCE = 6
"""Ranges of one list that are read concurrently."""
_CONFIRM_AT_ONCE = 4
_CONFIRM_MOST = 2_000
"""Missing objects fetched in one sync; the next sync fetches the rest."""


@dataclass(slots=True)
class Reading:
    """One list while it is read."""

    name: str
    kind: Kind
    complete: bool
    """Whether all of it is read here; a continued sync does not know what was read before."""
    writers: asyncio.Semaphore
    """Limits the number of pages that are written concurrently: others need the pool, too."""
    active: int = 0
    objects: int = 0
    seen: set[str] = field(default_factory=set)
    error: BillhookError | None = None
    """Why it was not read completely."""
    refused: str | None = None
    """Why a row could not be written: most likely a trigger of the app."""


async def read(reader: fetching.StripeReader, reading: Reading, ranges: Iterable[Range]) -> None:
    """Read one list. An error ends only this list."""
    try:
        async with all_or_first_error() as group:
            for each in ranges:
                reading.active += 1
                group.create_task(_walk(reader, reading, each, group))
    except LeaseLost:
        raise
    except (BillhookError, asyncpg.PostgresError) as error:
        reason = error if isinstance(error, BillhookError) else BillhookError(str(error))
        reading.error = reason
        log.warning(
            "a list could not be synced",
            environment=reader.environment,
            list=reading.name,
            reason=reason.message,
        )


async def _walk(
    reader: fetching.StripeReader, reading: Reading, part: Range, group: asyncio.TaskGroup
) -> None:
    kind, more = reading.kind, True
    while more:
        params = params_of(kind, part)
        page = await list_page(reader.get, reading.name, kind.path, params, after=part.after)
        more = page.more
        for each in page.objects:
            await fetching.complete_children(reader, kind, each)
        may_split = more and reading.active < _AT_ONCE
        older = split(kind, part, page.objects) if may_split else None
        reading.active += 1 if older else 0
        await _write(reader, reading, part, page, older)
        if older is not None:
            group.create_task(_walk(reader, reading, older, group))
    reading.active -= 1


async def _write(
    reader: fetching.StripeReader,
    reading: Reading,
    part: Range,
    page: ListPage,
    older: Range | None,
) -> None:
    """Write a page and the rest of its range, in one transaction."""
    found = page.objects
    part.objects += len(found)
    part.after = found[-1]["id"] if found else part.after
    if older is not None and older.upto is not None:
        part.since = older.upto
    facts = fetching.facts_in(reading.kind, found, page.at)

    async def write(facts: Sequence[Fact]) -> None:
        await write_page(reader, reading.name, facts, part, older, done=not page.more)

    async with reading.writers:
        try:
            await repeat_collisions(partial(write, facts))
        except asyncpg.PostgresError:
            await _write_singly(reader, reading, found, page.at)
            await repeat_collisions(partial(write, ()))
    reading.objects += len(found)
    reading.seen.update(each["id"] for each in found)


async def _write_singly(
    reader: fetching.StripeReader, reading: Reading, found: list[StripeObject], at: int
) -> None:
    """A row of a page was rejected: find it and skip it."""
    for each in found:
        try:
            await fetching.write_one(reader, reading.kind, each, at)
        except asyncpg.PostgresError as error:
            _refuse(reader, reading, each["id"], error)


def _refuse(
    reader: fetching.StripeReader, reading: Reading, object_id: str, error: asyncpg.PostgresError
) -> None:
    reading.refused = f"{object_id} could not be written: {reason_of(error)}"
    log.warning(
        "a row could not be written",
        environment=reader.environment,
        list=reading.name,
        object_id=object_id,
        reason=reason_of(error),
    )


# The customer is looked up by its complete key, row by row: a join could be planned otherwise.
_UNKNOWN_PAYERS = """
SELECT ARRAY[m.provider_customer_id] AS ids, m.created_at AS at FROM payments.customer_mappings m
WHERE m.provider = 'stripe' AND m.environment = $1
  AND (
      SELECT c.deleted FROM payments.customers c
      WHERE c.provider = 'stripe' AND c.environment = $1
        AND c.provider_customer_id = m.provider_customer_id) IS NOT FALSE
"""


async def absent(
    reader: fetching.StripeReader, kind: Kind, seen: set[str], at: int, most: int
) -> tuple[list[str], int]:
    """Mirrored objects from before `at` that were missing in Stripe's list; and mapped customers
    that were never mirrored, or are deleted.

    Returns:
        The ids of the oldest, and how many there are in total.
    """
    alive = "AND NOT t.deleted" if kind.keeps_deleted else ""
    query = f"""
        SELECT ARRAY[t.{kind.key}] AS ids, t.provider_event_at AS at
        FROM payments.{kind.table} AS t
        WHERE {of_stripe(kind.table)}
          AND coalesce(t.provider_event_at, '-infinity') < pg_catalog.to_timestamp($2)
          {alive}
    """  # noqa: S608 — names from KINDS, nothing of the caller's
    rows, total = await unlisted(reader, query, at, listed=seen, most=most)
    if kind.name == "customer":
        payers, number = await unlisted(reader, _UNKNOWN_PAYERS, listed=frozenset(), most=most)
        rows, total = rows + payers, total + number
    return [row["ids"][0] for row in rows], total


async def remove_absent(reader: fetching.StripeReader, reading: Reading, at: int) -> int:
    """Fetch each object that was missing in Stripe's list, and remove those that don't exist."""
    if not reading.complete or reading.error is not None:
        return 0
    gone_perhaps, _ = await absent(reader, reading.kind, reading.seen, at, _CONFIRM_MOST)
    gone = 0

    async def confirm(object_id: str) -> None:
        nonlocal gone
        try:
            gone += not (await fetching.refresh(reader, reading.kind, object_id)).exists
        except asyncpg.PostgresError as error:
            _refuse(reader, reading, object_id, error)

    try:
        await for_each(gone_perhaps, confirm, _CONFIRM_AT_ONCE)
    except LeaseLost:
        raise
    except BillhookError as error:
        reading.error = error
    return gone
