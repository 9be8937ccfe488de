"""Reads one of Stripe's lists for comparison: all of it, or a sample within the time budget."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import structlog

from billhook.mirror.fetching import StripeReader
from billhook.postgres.refusals import reason_of
from billhook.stripe.list_pages import ListPage, list_pages

log = structlog.get_logger(__name__)

CONFIRMED = 500
"""Differences of a list that are checked individually. If there are more, a sync fixes them."""

YOUNG = 60
"""Seconds in which the event of a new object may still be in transit."""


async def pages(
    reader: StripeReader,
    list_name: str,
    path: str,
    params: dict[str, Any],
    since: int | None,
    until: float | None,
) -> AsyncIterator[ListPage]:
    """The pages of objects created since `since`, in epoch seconds, newest first.

    Args:
        since: None if the list cannot be limited to a range of `created`.
        until: monotonic time after which no other page is read. Such a sample begins at a random
        time, so that successive samples cover the whole list.
    """
    ranges: list[dict[str, Any]] = [{}]
    if since is not None:
        ranges = [{"created": each} for each in _ranges(since, until)]
    for part in ranges:
        if until is not None and time.monotonic() >= until:
            return
        async for page in list_pages(reader.get, list_name, path, {**params, **part}):
            yield page
            if until is not None and time.monotonic() >= until:
                return


def _ranges(since: int, until: float | None) -> list[dict[str, int]]:
    if until is None:
        return [{"gte": since}]
    middle = random.randint(since, max(since, int(time.time())))  # noqa: S311
    return [{"gte": since, "lt": middle}, {"gte": max(since, middle)}]


@contextmanager
def one_repair(table: str, object_id: str) -> Iterator[None]:
    """Repair one row. If a trigger of the app rejects it, the others are still repaired."""
    try:
        yield
    except asyncpg.PostgresError as error:
        log.warning("not repaired", table=table, object_id=object_id, reason=reason_of(error))
