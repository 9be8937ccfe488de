"""What happened with a payment, an event or a customer, in order: why was this order not
fulfilled? A few index lookups each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import asyncpg

from billhook.kinds.reading import timestamp
from billhook.models import MirroredRow, Payment, Subscription, Transaction, WebhookEvent
from billhook.paths import encoded
from billhook.postgres import Database
from billhook.reports.lists.events import TYPES
from billhook.reports.lists.labels import PaymentLabel, SubscriptionLabel
from billhook.settings import Environment

Tone = Literal["good", "wait", "bad", "quiet"]
_MOST = 100
"""The newest events that a timeline shows."""
_FAILING = 200
"""The newest failed events, among which those of a customer are looked for."""
_OF_PAYMENT = ("payment_intent", "charge", "invoice", "checkout_session")
_FINAL = ("succeeded", "refunded", "partially_refunded")

# The number of retries and the time of the next one; `infinity` if there is none.
_RETRY = """LEFT JOIN LATERAL (
    SELECT CASE WHEN r.next_at < 'infinity' THEN r.next_at END AS next_at
    FROM billhook.event_retries AS r
    WHERE r.environment = $1 AND r.event_id = e.event_id LIMIT 1) AS retry ON true"""
_COLUMNS = """e.event_id, e.event_type, e.object_id, e.processing_status, e.attempt_count,
    e.last_error, e.received_at, e.processed_at, e.updated_at, retry.next_at"""
_EVENTS = f"""
SELECT {_COLUMNS}
FROM ROWS FROM (pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[])) AS of (type, id)
CROSS JOIN LATERAL (
    SELECT t.*, t.provider_event_id AS event_id FROM payments.webhook_events AS t
    WHERE t.environment = $1 AND t.object_type = of.type AND t.object_id = of.id
    ORDER BY t.received_at DESC, t.id DESC LIMIT {_MOST}) AS e
{_RETRY}
ORDER BY e.received_at DESC, e.id DESC LIMIT {_MOST}
"""  # noqa: S608
_SESSION = """
SELECT created_at, status, mode, last_error FROM payments.stripe_checkout_sessions
WHERE environment = $1 AND checkout_session_id = $2
"""
_SESSIONS = """
SELECT created_at, status, mode, checkout_session_id, last_error
FROM payments.stripe_checkout_sessions
WHERE environment = $1 AND customer_id = $2 ORDER BY created_at DESC LIMIT 20
"""
_DISPUTES = """
SELECT dispute_id FROM payments.stripe_disputes
WHERE environment = $1 AND charge_id = $2
UNION
SELECT dispute_id FROM payments.stripe_disputes
WHERE environment = $1 AND payment_intent_id = $3
"""
_FAILED = f"""
SELECT {_COLUMNS}
FROM (SELECT t.*, t.provider_event_id AS event_id FROM ({TYPES}) AS known
      CROSS JOIN LATERAL (
          SELECT * FROM payments.webhook_events AS w
          WHERE w.provider = 'stripe' AND w.environment = $1 AND w.event_type = known.event_type
            AND w.processing_status = 'failed'
          ORDER BY w.received_at DESC, w.id DESC LIMIT {_FAILING}) AS t
      ORDER BY t.received_at DESC, t.id DESC LIMIT {_FAILING}) AS e
{_RETRY}
WHERE $2::text IS NULL OR e.object_id = $2
   OR e.payload #>> '{{data,object,customer}}'::text[] = $2
ORDER BY e.received_at DESC LIMIT $3
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happened.

    Attributes:
        path: the page about it, within the environment.
        minor: a detail that went as usual.
    """

    at: datetime
    text: str
    tone: Tone = "quiet"
    detail: str | None = None
    path: str | None = None
    amount: int | None = None
    currency: str | None = None
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Failing:
    """An event that could not be applied, most likely because a trigger of the app raised an error.

    Attributes:
        next_at: the next automatic retry; None if there is none.
    """

    event_id: str
    event_type: str
    object_id: str | None
    error: str
    attempts: int
    received_at: datetime
    next_at: datetime | None


@dataclass(frozen=True, slots=True)
class Timeline:
    """The steps, oldest first, and the events among them that fail."""

    steps: list[Step]
    failing: list[Failing]


async def of_payment(database: Database, environment: Environment, payment: Payment) -> Timeline:
    """What happened with a payment: checkout, payment, events with what the app's triggers said,
    refunds and disputes."""
    ids = {
        payment.provider_reference_type or "": payment.provider_reference_id,
        **payment.related_object_ids,
    }
    objects = [(kind, ids[kind]) for kind in _OF_PAYMENT if ids.get(kind)]
    objects += [("refund", r.provider_reference_id) for r in payment.refunds]
    async with database.connection() as connection:
        session = await connection.fetchrow(_SESSION, environment, ids.get("checkout_session"))
        disputes = await connection.fetch(
            _DISPUTES, environment, ids.get("charge"), ids.get("payment_intent")
        )
        objects += [("dispute", row["dispute_id"]) for row in disputes]
        rows = await connection.fetch(
            _EVENTS, environment, [kind for kind, _ in objects], [name for _, name in objects]
        )
    steps = [*_money(payment), *(step for row in rows for step in _applied(row))]
    if session is not None:
        steps.append(_opened(session))
    return Timeline(_in_order(steps), _failing(rows))


async def of_object(
    database: Database, environment: Environment, object_type: str, object_id: str
) -> Timeline:
    """The events of one object."""
    async with database.connection() as connection:
        rows = await connection.fetch(_EVENTS, environment, [object_type], [object_id])
    return Timeline(_in_order([s for row in rows for s in _applied(row)]), _failing(rows))


async def of_event(database: Database, environment: Environment, event: WebhookEvent) -> Timeline:
    """What happened with one event: created, received, applied or not, retried."""
    payload: Any = getattr(event, "payload", {})
    steps = []
    created = timestamp(payload.get("created"))
    if created is not None:
        steps.append(Step(datetime.fromtimestamp(created, UTC), "Happened at Stripe"))
    async with database.connection() as connection:
        next_at = await connection.fetchval(
            "SELECT CASE WHEN next_at < 'infinity' THEN next_at END FROM billhook.event_retries "
            "WHERE environment = $1 AND event_id = $2",
            environment,
            event.event_id,
        )
    row: dict[str, Any] = {**dict(event), "next_at": next_at}
    steps += _applied(row, linked=False)
    return Timeline(_in_order(steps), _failing([row]))


async def failing(
    database: Database, environment: Environment, customer_id: str | None = None, most: int = 5
) -> list[Failing]:
    """Events that fail, the last received first: all, or those of one customer."""
    async with database.connection() as connection:
        rows = await connection.fetch(_FAILED, environment, customer_id, most)
    return _failing(rows)


async def of_customer(
    database: Database,
    environment: Environment,
    customer_id: str,
    *,
    created_at: datetime | None,
    payments: Sequence[tuple[Payment, PaymentLabel]],
    subscriptions: Sequence[tuple[Subscription, SubscriptionLabel]],
    invoices: Iterable[MirroredRow],
) -> list[Step]:
    """Everything about a customer, the latest first, from what the page has read already.

    Args:
        payments, subscriptions: each with its label.
    """
    async with database.connection() as connection:
        sessions = await connection.fetch(_SESSIONS, environment, customer_id)
        rows = await connection.fetch(_EVENTS, environment, ["customer"], [customer_id])
    steps: list[Step] = []
    if created_at is not None:
        steps.append(Step(created_at, "Customer created"))
    for payment, label in payments:
        path = f"/transactions/{encoded(payment.provider_reference_id or '')}"
        what = label.bought or payment.description
        steps += [
            Step(s.at, s.text, s.tone, s.detail or what, path, s.amount, s.currency)
            for s in _money(payment)
        ]
    for subscription, plan in subscriptions:
        path = f"/subscriptions/{encoded(subscription.subscription_id)}"
        product = plan.product
        started_at = plan.started_at or subscription.created_at
        steps.append(Step(started_at, f"Subscribed to {product}", "good", path=path))
        if subscription.canceled_at is not None:
            steps.append(Step(subscription.canceled_at, f"Canceled {product}", "wait", path=path))
    for invoice in invoices:
        if invoice.status in ("open", "uncollectible"):
            steps.append(
                Step(
                    invoice.provider_created_at or invoice.created_at,
                    f"Invoice {invoice.number or ''} is {invoice.status}",
                    "wait",
                    path=f"/invoices/{encoded(invoice.invoice_id)}",
                    amount=invoice.amount_remaining,
                    currency=invoice.currency,
                )
            )
    steps += [_opened(row) for row in sessions]
    steps += [s for row in rows for s in _applied(row) if row["event_type"] != "customer.created"]
    return _in_order(steps)[::-1]


def _money(payment: Payment) -> list[Step]:
    """What happened to the money."""
    steps = []
    is_refund = payment.type == "refund"
    if payment.failed_at is not None:
        text = "Payment failed" if payment.status == "failed" else "Earlier attempt failed"
        steps.append(Step(payment.failed_at, text, "bad", None, None, *_amount(payment)))
    if payment.canceled_at is not None:
        steps.append(Step(payment.canceled_at, "Payment canceled", "quiet"))
    paid_at = payment.paid_at or (payment.provider_created_at if _is_paid(payment) else None)
    if paid_at is not None and not is_refund:
        steps.append(Step(paid_at, "Paid", "good", None, None, *_amount(payment)))
    for refund in [payment] if is_refund else payment.refunds:
        at = refund.refunded_at or refund.provider_created_at or refund.created_at
        text = {"refunded": "Refunded", "failed": "Refund failed"}.get(
            refund.status, "Refund requested"
        )
        tone: Tone = "bad" if refund.status == "failed" else "wait"
        detail = refund.description and refund.description.replace("_", " ").capitalize()
        steps.append(Step(at, text, tone, detail, None, *_amount(refund)))
    if payment.disputed_at is not None:
        reason = (payment.dispute_reason or "").replace("_", " ").capitalize() or None
        amount = payment.amount_lost or payment.amount_disputed or None
        steps.append(
            Step(payment.disputed_at, "Disputed", "bad", reason, None, amount, payment.currency)
        )
    return steps


def _is_paid(payment: Transaction) -> bool:
    return payment.status in _FINAL and payment.type != "refund"


def _amount(payment: Transaction) -> tuple[int | None, str | None]:
    return payment.amount, payment.currency


def _opened(session: asyncpg.Record) -> Step:
    return Step(
        session["created_at"],
        "Checkout failed to open" if session["status"] == "failed" else "Checkout opened",
        "bad" if session["status"] == "failed" else "quiet",
        session["last_error"] or ("It expired." if session["status"] == "expired" else None),
    )


def _applied(row: Any, *, linked: bool = True) -> list[Step]:
    """When an event was received, and what became of it."""
    status, attempts = row["processing_status"], row["attempt_count"]
    path = f"/events/{encoded(row['event_id'])}" if linked else None
    name = row["event_type"] if linked else "Event"
    if status == "failed":
        when = "will be retried" if row["next_at"] else "is no longer retried"
        tried = f"{attempts} attempt{'' if attempts == 1 else 's'}"
        return [
            Step(row["received_at"], f"{name} received", "quiet", None, path),
            Step(
                row["updated_at"],
                f"{name} could not be applied ({tried}); it {when}",
                "bad",
                row["last_error"] if linked else None,  # the event's own page says it anyway
                path,
            ),
        ]
    if status == "pending":
        return [Step(row["received_at"], f"{name} received, not applied yet", "wait", None, path)]
    if status == "ignored":
        return [Step(row["received_at"], name, "quiet", "received, not needed", path, minor=True)]
    if attempts > 1 and row["processed_at"] is not None:
        return [
            Step(row["received_at"], f"{name} received", "quiet", None, path),
            Step(
                row["processed_at"],
                f"{name} applied on attempt {attempts}",
                "good",
                row["last_error"] and f"Before that: {row['last_error']}",
                path,
            ),
        ]
    return [Step(row["received_at"], name, "good", "received and applied", path, minor=True)]


def _failing(rows: Iterable[Any]) -> list[Failing]:
    return [
        Failing(
            row["event_id"],
            row["event_type"],
            row["object_id"],
            row["last_error"] or "The reason is unknown.",
            row["attempt_count"],
            row["received_at"],
            row["next_at"],
        )
        for row in rows
        if row["processing_status"] == "failed"
    ]


def _in_order(steps: list[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: step.at)
