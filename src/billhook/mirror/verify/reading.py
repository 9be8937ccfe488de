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
        since: None for a list that cannot be filtered by `created`, and is read from its start.
        until: monotonic time after which no other page is read. Such a sample begins at a random
        time, so that successive samples cover the whole list.
    """
    created: list[dict[str, int]] = [{} if since is None else {"gte": since}]
    if until is not None and since is not None:
        middle = random.randint(since, max(since, int(time.time())))  # noqa: S311
        created = [{"gte": since, "lt": middle}, {"gte": max(since, middle)}]
    for part in created:
        if until is not None and time.monotonic() >= until:
            return
        filtered = {"created": part} if part else {}
        async for page in list_pages(reader.get, list_name, path, params | filtered):
            yield page
            if until is not None and time.monotonic() >= until:
                return


@contextmanager
def one_repair(table: str, object_id: str) -> Iterator[None]:
    """Repair one row. If a trigger of the app rejects it, the others are still repaired."""
    try:
        yield
    except asyncpg.PostgresError as error:
        log.warning("not repaired", table=table, object_id=object_id, reason=reason_of(error))
