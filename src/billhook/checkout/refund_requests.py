"""The requests for refunds (`billhook.refund_requests`): each is stored before Stripe is asked.

Of several requests for one payment, one is decided at a time, in a short transaction. A request
counts as refunded until it is known that Stripe has refunded nothing, so that together they never
exceed what is left. Until then, it is repeated with the same idempotency key at Stripe.

Without an idempotency key, the same request for the same payment within a minute is a repetition: a
double click, or a client that did not wait for the response. The minute begins when it becomes
known that Stripe has created the refund.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from billhook.checkout.refund_balance import Balance, decide
from billhook.checkout.refund_lines import Line
from billhook.checkout.refund_target import Target, mirrored_target
from billhook.errors import IdempotencyKeyReused
from billhook.models import CreateRefund, RefundedLineItem
from billhook.models.wire import request_hash
from billhook.postgres import Connection, Database
from billhook.settings import Environment

_LOCK = """
SELECT FROM billhook.payment_refs
WHERE environment = $1 AND object_type = $2 AND object_id = $3 FOR UPDATE
"""
_COLUMNS = "id, request_hash, object_type, object_id, amount, status, attempt, refund_id"
_BY_KEY = f"""
SELECT {_COLUMNS} FROM billhook.refund_requests
WHERE environment = $1 AND account_id = $2 AND idempotency_key = $3
"""  # noqa: S608
_SAME_WITHOUT_KEY = f"""
SELECT {_COLUMNS} FROM billhook.refund_requests q
WHERE environment = $1 AND account_id = $2 AND object_type = $3 AND object_id = $4
    AND request_hash = $5 AND idempotency_key IS NULL AND (
        status = 'requested' OR status = 'created' AND asked_at > now() - interval '1 minute')
    AND NOT EXISTS (
        SELECT FROM billhook.payment_refunds r
        WHERE r.environment = q.environment AND r.object_type = 'refund'
          AND r.object_id = q.refund_id AND r.status = 'failed')
ORDER BY asked_at DESC LIMIT 1
"""  # noqa: S608
_INSERT = """
INSERT INTO billhook.refund_requests (id, environment, account_id, idempotency_key, request_hash,
    object_type, object_id, amount, currency, line_items, status)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'requested')
ON CONFLICT DO NOTHING
"""
_TRY_AGAIN = """
UPDATE billhook.refund_requests
SET status = 'requested', attempt = attempt + 1, asked_at = now(), failed_at = NULL,
    amount = $2, line_items = $3
WHERE id = $1
RETURNING attempt
"""
_ASKED_AGAIN = """
UPDATE billhook.refund_requests SET asked_at = clock_timestamp() WHERE id = $1
"""
_CREATED = """
UPDATE billhook.refund_requests
SET status = 'created', refund_id = $2, asked_at = clock_timestamp()
WHERE id = $1 AND status <> 'created'
"""
_REFUSED = """
UPDATE billhook.refund_requests SET status = 'refused'
WHERE id = $1 AND status = 'requested' AND attempt = $2
"""
_FAILED = """
UPDATE billhook.refund_requests SET failed_at = coalesce(failed_at, now()),
    status = CASE WHEN failed_at < now() - interval '2 minutes' THEN 'refused' ELSE status END
WHERE id = $1 AND status = 'requested' AND attempt = $2
RETURNING status = 'refused'
"""
_ABANDONED = """
UPDATE billhook.refund_requests SET status = 'refused'
WHERE id = $1 AND status = 'requested' AND asked_at < now() - interval '2 minutes'
"""
_LINES_OF = """
SELECT line_items FROM billhook.refund_requests WHERE environment = $1 AND refund_id = $2
"""


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A request for a refund, decided and stored.

    Attributes:
        attempt: counts from 1; the earlier ones refunded nothing.
        refund_id: the refund, if Stripe has created it.
        earlier: an earlier request stored it.
    """

    id: UUID
    target: tuple[str, str]
    amount: int
    attempt: int
    refund_id: str | None
    earlier: bool


async def lock_payment(connection: Connection, environment: Environment, target: Target) -> Target:
    """Until the end of the transaction, nobody else decides about this payment.

    Returns:
        The target as it is now: the wait may have been long.
    """
    await connection.execute(_LOCK, environment, *target.key)
    found = await mirrored_target(connection, environment, *target.key)
    return target if found is None else replace(target, part=found.part)


def hash_of_request(target: Target, order: CreateRefund) -> str:
    """SHA-256 of what a request asks for."""
    asked = order.model_dump(by_alias=True, exclude_none=True, exclude={"idempotency_key"})
    asked["payment"] = target.key
    asked.setdefault("metadata", {})
    return request_hash(asked)


async def claim(
    connection: Connection,
    environment: Environment,
    account: str,
    target: Target,
    balance: Balance,
    order: CreateRefund,
    lines: Sequence[Line],
) -> RefundRequest:
    """Decide about a request and store it, or find the earlier one that it repeats. In the
    transaction that holds the payment's lock.

    Raises:
        IdempotencyKeyReused: the key was used for something else.
        InvalidInput, NotRefundable: see `refund_balance.decide`.
    """
    fingerprint = hash_of_request(target, order)
    earlier = await _earlier(connection, environment, account, target, order, fingerprint)
    if earlier is not None:
        found = _request(earlier)
        if earlier["status"] == "created":
            return found
        if earlier["status"] == "requested":
            await connection.execute(_ASKED_AGAIN, found.id)
            return found
        decision = decide(balance, order, lines)
        attempt = await connection.fetchval(
            _TRY_AGAIN, found.id, decision.amount, _stored(decision.lines)
        )
        return replace(found, amount=decision.amount, attempt=attempt, earlier=False)
    decision = decide(balance, order, lines)
    request_id = uuid4()
    inserted = await connection.execute(
        _INSERT,
        request_id,
        environment,
        account,
        order.idempotency_key,
        fingerprint,
        *target.key,
        decision.amount,
        balance.part.currency,
        _stored(decision.lines),
    )
    if inserted != "INSERT 0 1":  # just now, for another payment
        raise IdempotencyKeyReused("refund")
    return RefundRequest(request_id, target.key, decision.amount, 1, None, earlier=False)


async def _earlier(
    connection: Connection,
    environment: Environment,
    account: str,
    target: Target,
    order: CreateRefund,
    fingerprint: str,
) -> asyncpg.Record | None:
    if order.idempotency_key is None:
        return await connection.fetchrow(
            _SAME_WITHOUT_KEY, environment, account, *target.key, fingerprint
        )
    row = await connection.fetchrow(_BY_KEY, environment, account, order.idempotency_key)
    if row is not None and row["request_hash"] != fingerprint:
        raise IdempotencyKeyReused("refund")
    return row


def _request(row: asyncpg.Record) -> RefundRequest:
    return RefundRequest(
        id=row["id"],
        target=(row["object_type"], row["object_id"]),
        amount=row["amount"],
        attempt=row["attempt"],
        refund_id=row["refund_id"],
        earlier=True,
    )


def _stored(lines: Sequence[RefundedLineItem]) -> list[dict[str, Any]]:
    return [each.model_dump(by_alias=True) for each in lines]


async def created(database: Database, request_id: UUID, refund_id: str) -> None:
    """Stripe created the refund of a request."""
    await database.execute(_CREATED, request_id, refund_id)


async def refused(database: Database, request: RefundRequest) -> None:
    """Stripe refused a request: it refunds nothing."""
    await database.execute(_REFUSED, request.id, request.attempt)


async def failed(database: Database, request: RefundRequest) -> bool:
    """Stripe has no refund of a request that it failed to execute. It may still create what is
    missing for a moment.

    Returns:
        Whether that moment is over: the next attempt may use another idempotency key.
    """
    async with database.connection() as connection:
        return bool(await connection.fetchval(_FAILED, request.id, request.attempt))


async def abandoned(database: Database, request_id: UUID) -> None:
    """Stripe has no refund of an old request, so nobody is waiting for one."""
    await database.execute(_ABANDONED, request_id)


async def lines_refunded(
    database: Database, environment: Environment, refund_id: str
) -> list[RefundedLineItem]:
    """The lines that a refund was asked for."""
    async with database.connection() as connection:
        stored = await connection.fetchval(_LINES_OF, environment, refund_id)
    return [
        RefundedLineItem(
            line_item_id=each["lineItemId"],
            price_id=each["priceId"],
            quantity=each["quantity"],
            amount=each["amount"],
        )
        for each in stored or ()
    ]
