"""The requests for refunds (`billhook.refund_requests`): each is stored before Stripe is asked.

Of several requests for one payment, one is decided at a time, in a short transaction. A request
counts as refunded until Stripe has refused it, so that together they never exceed what is left.

Without an idempotency key, the same request for the same payment within a minute is a repetition: a
double click, or a client that did not wait for the response.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from billhook.checkout.refund_lines import Line, Returned, amounts_of
from billhook.checkout.refund_target import NotRefundable, Target, mirrored_target
from billhook.errors import IdempotencyKeyReused, InvalidInput
from billhook.models import CreateRefund, PreviewRefund, RefundedLineItem
from billhook.money import money
from billhook.postgres import Connection, Database
from billhook.reducers.refundable import Refundable
from billhook.settings import Environment

_LOCK = """
SELECT FROM billhook.payment_refs
WHERE environment = $1 AND object_type = $2 AND object_id = $3 FOR UPDATE
"""
_COLUMNS = "id, request_hash, object_type, object_id, amount, status, attempt, refund_id"
_BY_KEY = f"""
SELECT {_COLUMNS} FROM billhook.refund_requests
WHERE environment = $1 AND idempotency_key = $2
"""  # noqa: S608
_SAME_WITHOUT_KEY = f"""
SELECT {_COLUMNS} FROM billhook.refund_requests q
WHERE environment = $1 AND object_type = $2 AND object_id = $3 AND request_hash = $4
    AND idempotency_key IS NULL AND (
        status = 'requested' OR status = 'created' AND requested_at > now() - interval '1 minute')
    AND NOT EXISTS (
        SELECT FROM billhook.payment_refunds r
        WHERE r.environment = q.environment AND r.object_type = 'refund'
          AND r.object_id = q.refund_id AND r.status = 'failed')
ORDER BY requested_at DESC LIMIT 1
"""  # noqa: S608
# What is asked for and what the mirror knows of it. An event may report the refund of a request
# whose response was lost; the refund's metadata names the request.
_OTHERS = """
SELECT q.id, q.amount, q.line_items, q.status, refund.object_id AS refund_id,
    refund.status AS refund_status, q.requested_at < now() - interval '2 minutes' AS is_old
FROM billhook.refund_requests q
LEFT JOIN LATERAL (
    SELECT r.object_id, r.status FROM billhook.payment_refunds r
    WHERE r.environment = q.environment AND r.object_type = 'refund'
      AND r.object_id = coalesce(q.refund_id, (
        SELECT t.provider_object_id FROM payments.transactions t
        WHERE t.payment_id = (
            SELECT payment_id FROM billhook.payment_refs
            WHERE environment = $1 AND object_type = $2 AND object_id = $3)
          AND t.type = 'refund'
          AND t.raw #>> '{metadata,insforge_refund_request_id}'::text[] = q.id::text LIMIT 1))
) refund ON true
WHERE q.environment = $1 AND q.object_type = $2 AND q.object_id = $3 AND q.status <> 'refused'
"""
_DISPUTES = """
SELECT dispute_id, amount, currency, status,
    raw -> 'is_charge_refundable'::text = 'false'::jsonb AS blocks
FROM payments.stripe_disputes
WHERE environment = $1 AND payment_intent_id = $2
UNION
SELECT dispute_id, amount, currency, status,
    raw -> 'is_charge_refundable'::text = 'false'::jsonb
FROM payments.stripe_disputes
WHERE environment = $1 AND charge_id = ANY ($3::text[])
"""
_INSERT = """
INSERT INTO billhook.refund_requests (id, environment, idempotency_key, request_hash, object_type,
    object_id, amount, currency, line_items, status)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'requested')
ON CONFLICT DO NOTHING
"""
_TRY_AGAIN = """
UPDATE billhook.refund_requests
SET status = 'requested', attempt = attempt + 1, asking = 1, requested_at = now(), amount = $2,
    line_items = $3
WHERE id = $1
RETURNING attempt
"""
_ASKED_AGAIN = """
UPDATE billhook.refund_requests SET asking = asking + 1, requested_at = now() WHERE id = $1
"""
_CREATED = """
UPDATE billhook.refund_requests SET status = 'created', refund_id = $2 WHERE id = $1
"""
# Unless another request with the same key is still asking, or was more successful.
_REFUSED = """
UPDATE billhook.refund_requests
SET asking = asking - 1, status = CASE WHEN asking <= 1 THEN 'refused' ELSE status END
WHERE id = $1 AND status = 'requested' AND attempt = $2
"""
_ABANDONED = """
UPDATE billhook.refund_requests SET status = 'refused'
WHERE id = $1 AND status = 'requested' AND requested_at < now() - interval '2 minutes'
"""
_LINES_OF = """
SELECT line_items FROM billhook.refund_requests WHERE environment = $1 AND refund_id = $2
"""
_OPEN_DISPUTES = frozenset(
    ("needs_response", "under_review", "appeal_needs_response", "appeal_under_review")
)


@dataclass(frozen=True, slots=True)
class RefundRequest:
    """A request for a refund, decided and stored.

    Attributes:
        attempt: counts from 1; Stripe refused the earlier ones.
        refund_id: the refund, if Stripe has created it.
        earlier: an earlier request stored it.
    """

    id: UUID
    target: tuple[str, str]
    amount: int
    attempt: int
    refund_id: str | None
    earlier: bool


@dataclass(frozen=True, slots=True)
class Balance:
    """What can be refunded of a payment now.

    Attributes:
        asked_for: by requests whose refunds the mirror does not know yet.
        disputed: lost to disputes.
        blocked_by: a dispute that blocks refunds.
        before: what other refunds return of each line.
        unresolved: old requests of which nobody knows what became of them.
    """

    part: Refundable
    asked_for: int
    disputed: int
    blocked_by: str | None
    before: Mapping[str, Returned]
    unresolved: tuple[UUID, ...]

    @property
    def pending(self) -> int:
        return self.part.pending + self.asked_for

    @property
    def left(self) -> int:
        return max(self.part.left - self.asked_for - self.disputed, 0)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a refund returns."""

    amount: int
    lines: list[RefundedLineItem]


async def lock_payment(connection: Connection, environment: Environment, target: Target) -> Target:
    """Until the end of the transaction, nobody else decides about this payment.

    Returns:
        The target as it is now: the wait may have been long.
    """
    await connection.execute(_LOCK, environment, *target.key)
    found = await mirrored_target(connection, environment, *target.key)
    return target if found is None else replace(target, part=found.part)


async def balance_of(connection: Connection, environment: Environment, target: Target) -> Balance:
    """What can be refunded of a payment."""
    part = target.part
    rows = await connection.fetch(_OTHERS, environment, *target.key)
    disputes = await connection.fetch(_DISPUTES, environment, part.object_id, [*part.charges])
    live = [row for row in rows if row["refund_status"] != "failed"]
    unknown = [row for row in rows if row["refund_id"] is None]
    blocking = (d for d in disputes if d["status"] in _OPEN_DISPUTES and d["blocks"])
    return Balance(
        part=part,
        asked_for=sum(row["amount"] for row in unknown),
        disputed=sum(d["amount"] or 0 for d in disputes if d["status"] == "lost"),
        blocked_by=next((d["dispute_id"] for d in blocking), None),
        before=_returned([each for row in live for each in row["line_items"]]),
        unresolved=tuple(
            row["id"] for row in unknown if row["status"] == "requested" and row["is_old"]
        ),
    )


def _returned(lines: Sequence[Mapping[str, Any]]) -> dict[str, Returned]:
    found: dict[str, Returned] = {}
    for each in lines:
        known = found.get(each["lineItemId"], Returned())
        found[each["lineItemId"]] = Returned(
            known.quantity + each["quantity"], known.amount + each["amount"]
        )
    return found


def decide(balance: Balance, order: PreviewRefund, lines: Sequence[Line]) -> Decision:
    """What a refund returns: never more than what is left.

    Raises:
        InvalidInput: a line is unknown, or `amount` is not that of the lines.
        NotRefundable: less is left, or a dispute blocks refunds.
    """
    currency = balance.part.currency
    if balance.blocked_by is not None:
        raise NotRefundable(
            f"The dispute {balance.blocked_by} of this payment is open, and Stripe does not "
            "refund a disputed payment.",
            next_actions="Answer or accept the dispute in Stripe's Dashboard.",
        )
    found = amounts_of(lines, order.line_items or (), balance.before)
    by_lines = sum(each.amount for each in found)
    if found and order.amount not in (None, by_lines):
        raise InvalidInput(
            f"amount: the lines of this refund are {money(by_lines, currency)}, not "
            f"{money(order.amount, currency)}",
            next_actions="Omit amount, or send the amount of a preview that is still valid.",
        )
    amount = by_lines if found else balance.left if order.amount is None else order.amount
    if amount > balance.left or amount == 0:
        raise NotRefundable(
            _too_much(balance, amount),
            next_actions=(
                "See what was refunded: billhook transactions. A refund that fails can be repeated."
            ),
        )
    return Decision(amount, found)


def _too_much(balance: Balance, amount: int) -> str:
    part = balance.part

    def of(number: int) -> str:
        return money(number, part.currency)

    uses = {
        "refunded": part.refunded,
        "being refunded": balance.pending,
        "lost to disputes": balance.disputed,
    }
    used = ", ".join(f"{of(number)} {what}" for what, number in uses.items() if number)
    begin = (
        f"{of(amount)} cannot be refunded: {of(balance.left)} of {part.object_id} is left"
        if amount and balance.left
        else f"Nothing is left to refund of {part.object_id}"
    )
    return f"{begin} ({of(part.amount)} paid{', ' + used if used else ''})."


def hash_of_request(target: Target, order: CreateRefund) -> str:
    """SHA-256 of what a request asks for."""
    asked = order.model_dump(by_alias=True, exclude_none=True, exclude={"idempotency_key"})
    asked["payment"] = target.key
    asked.setdefault("metadata", {})
    return sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def claim(
    connection: Connection,
    environment: Environment,
    target: Target,
    balance: Balance,
    order: CreateRefund,
    lines: Sequence[Line],
) -> RefundRequest:
    """Decide about a request and store it, or find the earlier one that it repeats. In the
    transaction that holds the payment's lock.

    Raises:
        IdempotencyKeyReused: the key was used for something else.
        InvalidInput, NotRefundable: see `decide`.
    """
    fingerprint = hash_of_request(target, order)
    earlier = await _earlier(connection, environment, target, order, fingerprint)
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
    request = RefundRequest(
        id=uuid4(),
        target=target.key,
        amount=decision.amount,
        attempt=1,
        refund_id=None,
        earlier=False,
    )
    inserted = await connection.execute(
        _INSERT,
        request.id,
        environment,
        order.idempotency_key,
        fingerprint,
        *request.target,
        request.amount,
        balance.part.currency,
        _stored(decision.lines),
    )
    if inserted != "INSERT 0 1":  # just now, for another payment
        raise IdempotencyKeyReused("refund")
    return request


async def _earlier(
    connection: Connection,
    environment: Environment,
    target: Target,
    order: CreateRefund,
    fingerprint: str,
) -> asyncpg.Record | None:
    if order.idempotency_key is None:
        return await connection.fetchrow(_SAME_WITHOUT_KEY, environment, *target.key, fingerprint)
    row = await connection.fetchrow(_BY_KEY, environment, order.idempotency_key)
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
