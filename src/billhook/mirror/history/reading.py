"""Reads the lists of an import, each in several ranges at once, and writes their pages."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import structlog

from billhook.errors import BillhookError
from billhook.mirror.fetching import StripeReader
from billhook.mirror.history.lists import LISTINGS
from billhook.mirror.history.ranges import Range
from billhook.mirror.history.writing import told_by, write_page
from billhook.postgres.leases import LeaseLost
from billhook.postgres.refusals import reason_of
from billhook.stripe.gateway import refusal_of
from billhook.stripe.list_pages import ListPage, list_page
from billhook.task_groups import all_or_first_error

log = structlog.get_logger(__name__)

_OF_ONE_LIST = 8
"""Ranges of one list that are read concurrently."""
_AT_ONCE = 16
"""Pages that are requested, or received and not yet written: this bounds the memory."""
_WRITERS = 2
"""Pages that are written concurrently: others need the database, too."""


@dataclass(slots=True)
class _Reading:
    """One list while it is read."""

    reader: StripeReader
    name: str
    slots: asyncio.Semaphore
    writers: asyncio.Semaphore
    active: int = 0
    error: str | None = None


async def read(reader: StripeReader, ranges: Sequence[Range]) -> list[str]:
    """Read all ranges. An error ends only its list.

    Returns:
        Why lists could not be read to the end. What was read is stored.

    Raises:
        LeaseLost: another process is importing, or the key was changed.
    """
    slots, writers = asyncio.Semaphore(_AT_ONCE), asyncio.Semaphore(_WRITERS)
    readings = [_Reading(reader, name, slots, writers) for name in LISTINGS]
    async with all_or_first_error() as group:
        for each in readings:
            group.create_task(_read(each, [part for part in ranges if part.of == each.name]))
    return [f"{each.name}: {each.error}" for each in readings if each.error]


async def _read(reading: _Reading, ranges: Sequence[Range]) -> None:
    try:
        async with all_or_first_error() as group:
            for each in ranges:
                reading.active += 1
                group.create_task(_walk(reading, each, group))
    except LeaseLost:
        raise
    except (BillhookError, asyncpg.PostgresError) as error:
        reading.error = reason_of(error)
        log.warning(
            "a list could not be imported to its end",
            environment=reading.reader.environment,
            list=reading.name,
            reason=reading.error,
        )


async def _walk(reading: _Reading, part: Range, group: asyncio.TaskGroup) -> None:
    while not part.done:
        async with reading.slots:
            older = await _next_page(reading, part)
        if older is not None:
            group.create_task(_walk(reading, older, group))
    reading.active -= 1


async def _next_page(reading: _Reading, part: Range) -> Range | None:
    """Read and write a page. Returns the older part of its range, if it was split off."""
    listing = LISTINGS[part.of]
    try:
        page = await _page(reading, part)
    except BillhookError as error:
        if part.after is None or not _is_cursor_gone(error):
            raise
        part.forget_cursor()
        page = await _page(reading, part)
    told = told_by(listing, page.objects, page.at)
    may_split = page.more and reading.active < _OF_ONE_LIST
    older = part.split(page.objects) if may_split else None
    if older is not None:
        reading.active += 1
        part.since = older.upto
    part.done = not page.more
    async with reading.writers:
        await write_page(reading.reader, part, page.objects, told, older)
    return older


async def _page(reading: _Reading, part: Range) -> ListPage:
    path = LISTINGS[part.of].path
    return await list_page(reading.reader.get, part.of, path, part.params, after=part.after)


def _is_cursor_gone(error: BillhookError) -> bool:
    """Whether the object to continue from was deleted, such as the draft of an invoice."""
    said = refusal_of(error)
    return said is not None and said.code == "resource_missing" and said.param == "starting_after"
