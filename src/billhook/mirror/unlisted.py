"""Mirrored rows that are missing in Stripe's lists.

A table is read as a stream and compared here, so that the cost grows with its size only, whatever
PostgreSQL knows about it.
"""

from __future__ import annotations

import heapq
from collections.abc import Set as AbstractSet
from typing import Any

import asyncpg

from billhook.mirror.fetching import StripeReader
from billhook.postgres import LONG_PATIENCE

_BATCH = 1_000


def _age(row: asyncpg.Record) -> tuple[bool, Any]:
    """Rows of an adopted database have no time: they are the oldest."""
    return row["at"] is not None, row["at"]


async def unlisted(
    reader: StripeReader, query: str, *args: object, listed: AbstractSet[str], most: int
) -> tuple[list[asyncpg.Record], int]:
    """The oldest rows of a query without a listed id, and how many there are in total.

    Args:
        query: rows with their Stripe ids as `ids`, and their time as `at`; $1 is the environment.
        listed: the ids that Stripe lists.
        most: the number of rows to return.
    """
    found: list[asyncpg.Record] = []
    total = 0
    async with reader.database.as_service() as connection:
        rows = connection.cursor(
            query, reader.environment, *args, prefetch=_BATCH, timeout=LONG_PATIENCE
        )
        async for row in rows:
            if listed.isdisjoint(row["ids"]):
                total += 1
                found.append(row)
                if len(found) >= 2 * most:
                    found = heapq.nsmallest(most, found, key=_age)
    return heapq.nsmallest(most, found, key=_age), total
