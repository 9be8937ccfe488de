"""Requests with an idempotency key, in `billhook.subscription_requests`.

What a request sends to Stripe may depend on the state of the subscription, such as the quantity
that it keeps. It is stored before it is sent, so that a repeated request sends the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal

import asyncpg
import orjson

from billhook.checkout.subscriptions.rights import Operation, Target
from billhook.errors import IdempotencyKeyReused
from billhook.models import ChangeRequest
from billhook.models.wire import request_hash
from billhook.postgres import Connection

_FIND = """
SELECT request_hash, calls, attempt, finished_at IS NOT NULL AS finished
FROM billhook.subscription_requests
WHERE environment = $1 AND subscription_id = $2 AND idempotency_key = $3
"""
# Rows without use are removed on the way, a few at a time.
_ADD = """
WITH old AS (
    SELECT environment, subscription_id, idempotency_key FROM billhook.subscription_requests
    WHERE created_at < pg_catalog.now() - interval '30 days'
    ORDER BY created_at LIMIT 20 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM billhook.subscription_requests r USING old
    WHERE r.environment = old.environment AND r.subscription_id = old.subscription_id
      AND r.idempotency_key = old.idempotency_key
)
INSERT INTO billhook.subscription_requests (
    environment, subscription_id, idempotency_key, request_hash, calls)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT DO NOTHING
"""
# Stripe stores its own failures, too, and would repeat one under the same key.
_NEXT_ATTEMPT = """
UPDATE billhook.subscription_requests SET attempt = attempt + 1
WHERE environment = $1 AND subscription_id = $2 AND idempotency_key = $3 AND attempt = $4
"""
_FINISHED = """
UPDATE billhook.subscription_requests SET finished_at = pg_catalog.now()
WHERE environment = $1 AND subscription_id = $2 AND idempotency_key = $3
"""


@dataclass(frozen=True, slots=True)
class Call:
    """A request to Stripe.

    Attributes:
        step: the path below the subscription's.
    """

    method: Literal["post", "delete"]
    params: dict[str, Any]
    step: str = ""


@dataclass(frozen=True, slots=True)
class Known:
    """A request that was made before.

    Attributes:
        attempt: counts from 1; Stripe failed in the earlier ones.
        finished: its effect is at Stripe and in the mirror.
    """

    calls: list[Call]
    attempt: int
    finished: bool


def fields_of(order: ChangeRequest) -> dict[str, Any]:
    """What a request asks for, as it was sent."""
    return order.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude={"act_as", "idempotency_key"}
    )


async def find(target: Target, operation: Operation, order: ChangeRequest) -> Known | None:
    """The same request as it was made before.

    Raises:
        IdempotencyKeyReused: the key was used for another one.
    """
    if order.idempotency_key is None:
        return None
    async with target.database.connection() as connection:
        row = await connection.fetchrow(_FIND, *_key(target, order))
    return None if row is None else _known(row, _hash(operation, order))


async def add(
    target: Target, operation: Operation, order: ChangeRequest, calls: Sequence[Call]
) -> Known:
    """Store a request, unless a concurrent one was faster: then that one counts.

    Raises:
        IdempotencyKeyReused: its key was used for another one.
    """
    if order.idempotency_key is None:
        return Known(list(calls), attempt=1, finished=False)
    key, hash_ = _key(target, order), _hash(operation, order)
    async with target.database.as_service() as connection:
        await connection.execute(_ADD, *key, hash_, [asdict(call) for call in calls])
        row = await connection.fetchrow(_FIND, *key)
    assert row is not None
    return _known(row, hash_)


async def finish(connection: Connection, target: Target, order: ChangeRequest) -> None:
    """Its effect is at Stripe and, when this transaction commits, in the mirror."""
    if order.idempotency_key is not None:
        await connection.execute(_FINISHED, *_key(target, order))


async def next_attempt(target: Target, order: ChangeRequest, attempt: int) -> None:
    """Stripe failed in an attempt, and repeats that: the next one uses other keys."""
    if order.idempotency_key is not None:
        await target.database.execute(_NEXT_ATTEMPT, *_key(target, order), attempt)


def stripe_key(target: Target, order: ChangeRequest, number: int, attempt: int) -> str | None:
    """The idempotency key of a request's call to Stripe: at most 255 printable characters, and no
    other subscription's, whatever the caller chose.

    Args:
        number: of the call, counted from 0.
    """
    ours = order.idempotency_key
    if ours is None:
        return None
    belongs_to = sha256(orjson.dumps([target.subscription_id, ours])).hexdigest()[:20]
    if not (ours.isascii() and ours.isprintable()):  # it is sent in a header
        ours = "hashed"
    again = "" if attempt == 1 else f":{attempt}"
    return f"insforge:{target.environment}:subscription:{ours}:{belongs_to}:{number}{again}"


def _key(target: Target, order: ChangeRequest) -> tuple[str, str, str | None]:
    return target.environment, target.subscription_id, order.idempotency_key


def _hash(operation: Operation, order: ChangeRequest) -> str:
    return request_hash([operation, fields_of(order)])


def _known(row: asyncpg.Record, hash_: str) -> Known:
    if row["request_hash"] != hash_:
        raise IdempotencyKeyReused("change of this subscription")
    return Known([Call(**call) for call in row["calls"]], row["attempt"], row["finished"])
