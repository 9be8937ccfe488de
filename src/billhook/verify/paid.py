"""`payments.transactions` against Stripe's charges and refunds, and the sums of both."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson

from billhook import ledger, refreshes
from billhook.db.leases import LeaseLost
from billhook.endpoint import EVENTS
from billhook.errors import BillhookError
from billhook.events import project_again
from billhook.mirror import Asking
from billhook.models import Drift, Money, VerifiedTable
from billhook.projections import Event
from billhook.projections.refunds import refund_changed
from billhook.stripe.gateway import StripeObject
from billhook.task_groups import all_or_first_error
from billhook.verify.reading import CONFIRMED, YOUNG, one_repair, pages

TABLE = "payments.transactions"

_AT_ONCE = 4
# The objects of a payment: an invoice tells of it without naming its PaymentIntent.
_PARTS = """
SELECT other.object_id FROM billhook.payment_refs of
JOIN billhook.payment_refs other USING (payment_id)
WHERE of.environment = $1 AND of.object_type = 'payment_intent' AND of.object_id = $2
  AND other.object_type IN ('invoice', 'checkout_session')
"""
_AROUND = (5, 600)
"""Seconds before and after an object was made in which its events are looked for."""

_SINCE = "SELECT extract(epoch FROM since)::bigint FROM billhook.pulls WHERE environment = $1"
_PAYMENTS = """
SELECT r.object_id AS id, t.amount, t.currency, t.status, t.updated_at, t.raw = '{}' AS bare
FROM billhook.payment_refs r JOIN payments.transactions t ON t.payment_id = r.payment_id
WHERE r.environment = $1 AND r.object_type = 'payment_intent' AND r.object_id = ANY ($2)
  AND t.type IN ('one_time_payment', 'subscription_invoice')
  AND t.status IN ('succeeded', 'refunded', 'partially_refunded')
"""
_REFUNDS = """
SELECT provider_object_id AS id, amount, currency, status, updated_at, raw = '{}' AS bare
FROM payments.transactions
WHERE provider = 'stripe' AND environment = $1 AND provider_object_type = 'refund'
  AND provider_object_id = ANY ($2)
"""
# Payments that we show and Stripe's list did not. Money that went past Stripe has no PaymentIntent.
_EXTRA = """
SELECT r.object_id AS id, t.amount, t.currency, t.paid_at
FROM payments.transactions t
JOIN billhook.payment_refs r
    ON r.payment_id = t.payment_id AND r.environment = $1 AND r.object_type = 'payment_intent'
WHERE t.environment = $1 AND t.type IN ('one_time_payment', 'subscription_invoice')
  AND t.status IN ('succeeded', 'refunded', 'partially_refunded') AND t.amount > 0
  AND t.paid_at >= pg_catalog.to_timestamp($2) AND t.paid_at < pg_catalog.to_timestamp($3)
  AND NOT EXISTS (SELECT FROM pg_catalog.unnest($4::text[]) AS seen WHERE seen = r.object_id)
ORDER BY t.paid_at DESC LIMIT $5
"""


@dataclass(frozen=True, slots=True)
class _Movement:
    """Money that moved at Stripe, as its transaction is to show it."""

    id: str
    amount: int
    currency: str
    statuses: frozenset[str]
    created: int
    counts: bool
    """Whether it is part of the sums: a refund that is pending or failed is not."""
    object: StripeObject


@dataclass(slots=True)
class _Sums:
    by_currency: dict[str, Money] = field(default_factory=dict)

    def of(self, currency: str) -> Money:
        return self.by_currency.setdefault(currency, Money(currency=currency))


async def compare_payments(
    asking: Asking, until: float | None, *, repair: bool
) -> tuple[VerifiedTable, VerifiedTable, list[Money]]:
    """Compare payments and refunds since the account was connected: what happened before is not in
    the ledger."""
    async with asking.database.connection() as connection:
        since = await connection.fetchval(_SINCE, asking.environment)
    payments = VerifiedTable(table=f"{TABLE} (payments)")
    refunds = VerifiedTable(table=f"{TABLE} (refunds)")
    sums = _Sums()
    if since is not None:
        async with all_or_first_error() as group:
            for kind, found in (("charge", payments), ("refund", refunds)):
                group.create_task(_compare(asking, kind, since, until, found, sums, repair=repair))
    return payments, refunds, [sums.by_currency[each] for each in sorted(sums.by_currency)]


async def _compare(
    asking: Asking,
    kind: str,
    since: int,
    until: float | None,
    found: VerifiedTable,
    sums: _Sums,
    *,
    repair: bool,
) -> None:
    seen: set[str] = set()
    suspects: list[_Movement] = []
    try:
        at = (await asking.get("account", "/v1/account", {})).at
        async for page in pages(asking, kind, f"/v1/{kind}s", {}, since, until):
            moved = [m for each in page.data.get("data") or [] if (m := _movement(kind, each))]
            shown = await _shown(asking, kind, [each.id for each in moved])
            for each in moved:
                found.objects += 1
                seen.add(each.id)
                row = shown.get(each.id)
                if not _differences(each, row):
                    _count(sums, kind, each, row)
                elif row is None and each.created > page.at - YOUNG:
                    found.in_flight += 1
                else:
                    suspects.append(each)
        found.complete = until is None
        await _confirm(asking, kind, suspects, found, sums, repair=repair)
        if found.complete and kind == "charge":
            await _extra(asking, since, at, seen, found, sums)
    except LeaseLost:
        raise
    except BillhookError as error:
        found.complete, found.error = False, error.message


def _movement(kind: str, stripe_object: StripeObject) -> _Movement | None:
    """What a charge or refund moved; None for a charge that did not succeed."""
    if kind == "charge":
        intent = stripe_object.get("payment_intent")
        taken = stripe_object.get("status") == "succeeded" and stripe_object.get("captured")
        if not taken or not isinstance(intent, str):
            return None
        paid = frozenset({"succeeded", "refunded", "partially_refunded"})
        amount = stripe_object.get("amount_captured") or stripe_object["amount"]
        return _Movement(
            intent,
            amount,
            stripe_object["currency"],
            paid,
            stripe_object["created"],
            True,
            stripe_object,
        )
    change = refund_changed(Event("", "refund.updated", 0, stripe_object, None)).payment
    if change is None or change.refund is None:
        return None
    facts = change.refund
    return _Movement(
        facts.object_id,
        facts.amount,
        facts.currency or "",
        frozenset({facts.status}),
        facts.created or 0,
        facts.status == "refunded",
        stripe_object,
    )


async def _shown(asking: Asking, kind: str, ids: list[str]) -> dict[str, Mapping[str, Any]]:
    query = _PAYMENTS if kind == "charge" else _REFUNDS
    async with asking.database.connection() as connection:
        rows = await connection.fetch(query, asking.environment, ids)
    return {row["id"]: dict(row) for row in rows}


def _differences(moved: _Movement, row: Mapping[str, Any] | None) -> list[str]:
    if row is None:
        return ["*"]
    found = [name for name in ("amount", "currency") if row[name] != getattr(moved, name)]
    if row["status"] not in moved.statuses:
        found.append("status")
    # A row that was removed comes back without its object when an event of another part of the
    # payment brings it, such as a refund's.
    return [*found, "raw"] if row["bare"] else found


def _count(sums: _Sums, kind: str, moved: _Movement, row: Mapping[str, Any] | None) -> None:
    """Add what Stripe moved, and what we show of it."""
    if moved.counts:
        theirs = sums.of(moved.currency)
        if kind == "charge":
            theirs.stripe_payments += moved.amount
        else:
            theirs.stripe_refunds += moved.amount
    if row is None or row["amount"] is None or not row["currency"]:
        return
    if kind == "charge":
        sums.of(row["currency"]).payments += row["amount"]
    elif row["status"] == "refunded":
        sums.of(row["currency"]).refunds += row["amount"]


async def _confirm(
    asking: Asking,
    kind: str,
    suspects: list[_Movement],
    found: VerifiedTable,
    sums: _Sums,
    *,
    repair: bool,
) -> None:
    """Look at each suspect once more: what differs now as well has drifted."""
    found.unconfirmed = max(0, len(suspects) - CONFIRMED)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(suspect: _Movement) -> None:
        async with slots:
            moved = await _anew(asking, kind, suspect)
            row = (await _shown(asking, kind, [moved.id])).get(moved.id)
            differing = _differences(moved, row)
            drift = _drift(found.table, moved, row, differing) if differing else None
            if drift is not None and repair:
                with one_repair(TABLE, moved.id):
                    row = await _mend(asking, kind, moved)
                drift.repaired = not _differences(moved, row)
            if drift is not None:
                found.drift.append(drift)
            _count(sums, kind, moved, row)

    async with all_or_first_error() as group:
        for each in suspects[:CONFIRMED]:
            group.create_task(one(each))


async def _anew(asking: Asking, kind: str, suspect: _Movement) -> _Movement:
    """The same charge or refund as it is now: a refund may have failed meanwhile."""
    found = await asking.get(kind, f"/v1/{kind}s/{suspect.object['id']}", {})
    return _movement(kind, found.data) or suspect


def _drift(
    table: str, moved: _Movement, row: Mapping[str, Any] | None, differing: list[str]
) -> Drift:
    return Drift(
        table=table,
        object_id=moved.id,
        problem="different" if row else "missing",
        fields=differing if row else [],
        since=row["updated_at"] if row else datetime.fromtimestamp(moved.created, UTC),
        amount=moved.amount,
        currency=moved.currency,
    )


async def _mend(asking: Asking, kind: str, moved: _Movement) -> Mapping[str, Any] | None:
    """Through the ledger, if Stripe still lists the events, so that the app's triggers learn of it;
    then as fetched. Returns the row that is shown then."""
    await _apply_events(asking, moved)
    row = (await _shown(asking, kind, [moved.id])).get(moved.id)
    if _differences(moved, row):
        intent_id = moved.object.get("payment_intent")
        if isinstance(intent_id, str):
            await refreshes.show_payment(asking, intent_id)
        if kind == "refund":
            await refreshes.show_refund(asking, moved.object)
        row = (await _shown(asking, kind, [moved.id])).get(moved.id)
    return row


async def _apply_events(asking: Asking, moved: _Movement) -> None:
    """Apply the events of that time that name the object: those that the ledger lacks as if they
    had just come, and those that it has once more, without the app's triggers."""
    before, after = _AROUND
    async with asking.database.connection() as connection:
        known = await connection.fetch(_PARTS, asking.environment, moved.id)
    named = [moved.id.encode(), moved.object["id"].encode(), *(id.encode() for (id,) in known)]
    events: list[StripeObject] = []
    params = {"created": {"gte": moved.created - before, "lte": moved.created + after}}
    cursor: dict[str, str] = {}
    more = True
    while more:
        page = await asking.get("event", "/v1/events", {"limit": 100, **params, **cursor})
        listed: list[StripeObject] = page.data.get("data") or []
        more = page.data.get("has_more") is True and bool(listed)
        cursor = {"starting_after": listed[-1]["id"]} if listed else {}
        events += [
            each
            for each in listed
            if each["type"] in EVENTS and any(name in orjson.dumps(each) for name in named)
        ]
    for each in reversed(events):
        delivery = ledger.decode(orjson.dumps(each))
        try:
            row = await ledger.apply(asking.database, asking.environment, delivery, asking.lease)
            if row["processing_status"] == "processed" and not row["handled"]:
                await project_again(asking.database, asking.environment, delivery, refire=False)
        except (ledger.EventNotApplied, ledger.EventNotRecorded):
            continue  # it will be tried again


async def _extra(
    asking: Asking, since: int, at: int, seen: set[str], found: VerifiedTable, sums: _Sums
) -> None:
    """Payments that we show and Stripe does not have."""
    async with asking.database.connection() as connection:
        rows = await connection.fetch(_EXTRA, asking.environment, since, at, list(seen), CONFIRMED)
    for row in rows:
        try:
            intent = await asking.get("payment_intent", f"/v1/payment_intents/{row['id']}", {})
            taken = intent.data.get("status") == "succeeded"
        except BillhookError as error:
            if error.status != 404:
                raise
            taken = False
        if taken:  # its charge is older than the connection
            continue
        sums.of(row["currency"]).payments += row["amount"]
        found.drift.append(
            Drift(
                table=found.table,
                object_id=row["id"],
                problem="extra",
                since=row["paid_at"],
                amount=row["amount"],
                currency=row["currency"],
            )
        )
