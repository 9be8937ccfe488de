"""What a request's prices are: which one has a lookup key, and which are metered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

from billhook.kinds.catalog import PRICE
from billhook.kinds.reading import hash_of
from billhook.mirror.fetching import path_of
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

# The last one wins: an older price may still have a key whose transfer has not been reported.
_BY_LOOKUP_KEY = """
SELECT lookup_key, price_id FROM payments.stripe_prices
WHERE environment = $1 AND lookup_key = ANY ($2::text[]) AND active
ORDER BY provider_event_at NULLS FIRST
"""
_PRICES = """
SELECT price_id, raw -> 'recurring'::text AS recurring
FROM payments.stripe_prices WHERE environment = $1 AND price_id = ANY ($2::text[])
"""


async def with_lookup_keys(
    database: Database, environment: Environment, keys: Sequence[str]
) -> dict[str, str]:
    """The ids of the active mirrored prices that have these lookup keys."""
    async with database.connection() as connection:
        rows = await connection.fetch(_BY_LOOKUP_KEY, environment, keys)
    return {row["lookup_key"]: row["price_id"] for row in rows}


async def mirrored_metering(
    database: Database, environment: Environment, price_ids: Sequence[str]
) -> dict[str, bool]:
    """Which of the mirrored prices are metered. A price never changes in this."""
    async with database.connection() as connection:
        rows = await connection.fetch(_PRICES, environment, price_ids)
    return {row["price_id"]: _is_metered(row["recurring"]) for row in rows}


async def metering_at_stripe(
    gateway: Gateway, environment: Environment, price_ids: Iterable[str], key: str | None
) -> dict[str, bool]:
    """The same for prices that are not mirrored yet.

    Raises:
        BillhookError: Stripe does not have one of them, or the request failed.
    """
    ids = list(price_ids)
    answers = await asyncio.gather(
        *(gateway.get(environment, path_of(PRICE, each), key=key) for each in ids)
    )
    return {
        each: _is_metered(answer.data.get("recurring"))
        for each, answer in zip(ids, answers, strict=True)
    }


def _is_metered(recurring: object) -> bool:
    return hash_of(recurring).get("usage_type") == "metered"
