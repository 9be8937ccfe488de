"""What can be refunded of a payment now, and what a refund of it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from billhook.checkout.refund_lines import Line, Returned, amounts_of
from billhook.checkout.refund_target import NotRefundable, Target
from billhook.errors import InvalidInput
from billhook.models import PreviewRefund, RefundedLineItem
from billhook.money import money, step
from billhook.postgres import Connection
from billhook.reducers.refundable import Refundable
from billhook.settings import Environment

# What is asked for and what the mirror knows of it. An event may report the refund of a request
# whose response was lost; the refund's metadata names the request.
_OTHERS = """
SELECT q.id, q.amount, q.line_items, q.status, refund.object_id AS refund_id,
    refund.status AS refund_status, q.asked_at < now() - interval '2 minutes' AS is_old
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
_OPEN_DISPUTES = frozenset(
    ("needs_response", "under_review", "appeal_needs_response", "appeal_under_review")
)


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
        InvalidInput: a line is unknown, or `amount` is not that of the lines, or one that Stripe
            cannot refund.
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
    if order.amount is not None and order.amount % step(currency):
        raise InvalidInput(
            f"amount: Stripe refunds {(currency or '').upper()} in multiples of {step(currency)}"
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
