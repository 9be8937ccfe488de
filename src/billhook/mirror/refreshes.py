"""Refreshes: what events alone cannot decide is fetched from Stripe (docs/explanation/ordering.md).

`billhook.refreshes` has one row for each such object, however often it was queued. If an object is
queued again during its fetch, the row stays and is handled again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import asyncpg
import structlog

from billhook.errors import FAULTS, BillhookError
from billhook.kinds import KINDS
from billhook.kinds.reading import UnreadableObject, hash_of, id_of, timestamp
from billhook.mirror import fetching
from billhook.paths import encoded
from billhook.postgres import Database, repeat_collisions
from billhook.postgres.leases import LeaseLost
from billhook.postgres.providers import of_stripe
from billhook.projections import Changes, Event
from billhook.projections.changes import PaymentChange
from billhook.projections.fetched import changes_of_fetched, of_intent, of_session, reported_by
from billhook.projections.invoices import payment_elsewhere
from billhook.reducers.payments import INVOICE_PAYMENTS
from billhook.reducers.transactions import lacks_refunds
from billhook.rows import Fact, apply_facts, payments_with
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, StripeObject
from billhook.stripe.list_pages import ListPage, list_page, list_pages
from billhook.task_groups import for_each

log = structlog.get_logger(__name__)

_BATCH = 50
_AT_ONCE = 4

# A worker that claims a refresh has until the next attempt to complete it, so nothing is lost if it
# dies.
_CLAIM = """
WITH due AS (
    SELECT object_type, object_id FROM billhook.refreshes
    WHERE environment = $1 AND next_at <= CASE WHEN $2 THEN 'infinity' ELSE now() END
      AND marked_at < $3
    ORDER BY next_at LIMIT $4 FOR UPDATE SKIP LOCKED
)
UPDATE billhook.refreshes r
SET attempts = r.attempts + 1, next_at = now() + billhook.backoff(r.attempts + 2)
FROM due
WHERE r.environment = $1 AND r.object_type = due.object_type AND r.object_id = due.object_id
RETURNING r.object_type, r.object_id, r.marked_at
"""
_SETTLED = """
DELETE FROM billhook.refreshes
WHERE environment = $1 AND object_type = $2 AND object_id = $3 AND marked_at = $4
"""
_ANY = """
SELECT EXISTS (SELECT FROM billhook.refreshes WHERE environment = $1 AND next_at <= now())
"""
# Whether the row shows nothing newer than a response of Stripe. If a response is as old as the
# changes that caused the refresh, only a later one decides.
_DECIDED = """
    SELECT coalesce(max(provider_event_at) <= pg_catalog.to_timestamp($3::bigint), true)
    FROM payments.{} WHERE {} AND {} = $2
"""
_SOON = """
UPDATE billhook.refreshes SET next_at = now() + interval '2 seconds'
WHERE environment = $1 AND object_type = $2 AND object_id = $3 AND marked_at = $4
"""
_IS_KNOWN = """
SELECT EXISTS (
    SELECT FROM billhook.payment_refs
    WHERE environment = $1 AND object_type = 'payment_intent' AND object_id = $2)
"""
_NOW = "SELECT clock_timestamp()"
# The known objects of a payment, whether one of them has reported its outcome, and, for overpaid
# invoices, whether their payments account for everything that was paid. For an invoice, also the
# amount paid, and whether a payment that Stripe lists paid it.
_PAYMENT = """
SELECT (
    SELECT pg_catalog.jsonb_object_agg(other.object_type, other.object_id)
    FROM billhook.payment_refs other
    WHERE other.payment_id = of.payment_id
) AS refs, EXISTS (
    SELECT FROM billhook.payment_sources s
    WHERE s.payment_id = of.payment_id AND s.outcome IN ('succeeded', 'canceled')
) AS ended, (
    SELECT coalesce(pg_catalog.sum(i.full_amount), 0) FROM billhook.payment_sources i
    WHERE i.payment_id = of.payment_id AND i.object_type = 'invoice' AND i.outcome = 'succeeded'
) <= (
    SELECT coalesce(pg_catalog.sum(p.amount), 0) FROM billhook.payment_sources p
    WHERE p.payment_id = of.payment_id AND p.object_type = 'invoice_payment'
) AS explained, EXISTS (
    SELECT FROM billhook.payment_sources c
    WHERE c.payment_id = of.payment_id AND c.outcome = 'succeeded'
      AND c.object_type IN ('payment_intent', 'charge', 'invoice_payment')
) AS collected, (
    SELECT pg_catalog.jsonb_build_object('amount_paid', v.amount, 'currency', v.currency)
    FROM billhook.payment_sources v
    WHERE v.payment_id = of.payment_id AND v.object_type = $2 AND v.object_id = $3
      AND v.outcome = 'succeeded' AND v.amount > 0
) AS paid
FROM (
    SELECT payment_id FROM billhook.payment_refs
    WHERE environment = $1 AND object_type = $2 AND object_id = $3
) AS of
"""
# A refund as Stripe last reported it.
_REFUND = """
SELECT object_id AS id, 'refund'::text AS object, amount, currency, charge_id AS charge,
    payment_intent_id AS payment_intent, extract(epoch FROM provider_created_at)::bigint AS created
FROM billhook.payment_refunds
WHERE environment = $1 AND object_type = 'refund' AND object_id = $2
"""
_REFUNDS_OF = """
SELECT object_id FROM billhook.payment_refunds
WHERE environment = $1 AND object_type = 'refund' AND charge_id = $2 AND payment_id = (
    SELECT payment_id FROM billhook.payment_refs
    WHERE environment = $1 AND object_type = 'charge' AND object_id = $2)
"""
_REMOVE_REFUND = f"""
DELETE FROM payments.transactions
WHERE {of_stripe("transactions")} AND type = 'refund'
  AND provider_object_type = 'refund' AND provider_object_id = $2
"""  # noqa: S608
# Of two workers' responses, the older one may be written last.
_KEEP = """
INSERT INTO billhook.fetched_payments (environment, event_type, object_id, told_at, object)
VALUES ($1, $2, $3, pg_catalog.to_timestamp($4::bigint), $5)
ON CONFLICT (environment, event_type, object_id) DO UPDATE SET
    told_at = EXCLUDED.told_at, object = EXCLUDED.object
WHERE fetched_payments.told_at <= EXCLUDED.told_at
"""


@dataclass(frozen=True, slots=True)
class _Mark:
    object_type: str
    object_id: str
    marked_at: datetime


async def any_due(database: Database, environment: Environment) -> bool:
    """Whether a refresh is due."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_ANY, environment))


async def settle_due(reader: fetching.StripeReader) -> int:
    """Fetch the objects whose refresh is due. Returns how many there were.

    An object that cannot be fetched or written is logged, and tried again later.

    Raises:
        LeaseLost: nothing may be written any more.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    marks = await _claim(reader, await _now(reader), every=False)
    await _ask(reader, marks)
    return len(marks)


async def settle_all(reader: fetching.StripeReader) -> None:
    """Fetch every queued object once. Raises as `settle_due` does."""
    before = await _now(reader)
    asked: set[tuple[str, str]] = set()
    while True:
        marks = await _claim(reader, before, every=True)
        fresh = [each for each in marks if (each.object_type, each.object_id) not in asked]
        if not fresh:
            return
        asked.update((each.object_type, each.object_id) for each in fresh)
        await _ask(reader, fresh)


async def _now(reader: fetching.StripeReader) -> datetime:
    async with reader.database.connection() as connection:
        return cast(datetime, await connection.fetchval(_NOW))


async def _claim(reader: fetching.StripeReader, before: datetime, *, every: bool) -> list[_Mark]:
    async with reader.database.connection() as connection:
        rows = await connection.fetch(_CLAIM, reader.environment, every, before, _BATCH)
    return [_Mark(**row) for row in rows]


async def _ask(reader: fetching.StripeReader, marks: list[_Mark]) -> None:
    async def one(mark: _Mark) -> None:
        try:
            settled = await _refresh(reader, mark)
        except LeaseLost:
            raise
        except (BillhookError, UnreadableObject, asyncpg.PostgresError, *FAULTS) as error:
            log.warning(
                "an object could not be refreshed",
                environment=reader.environment,
                object_type=mark.object_type,
                object_id=mark.object_id,
                reason=str(error),
            )
            return
        async with reader.database.connection() as connection:
            await connection.execute(
                _SETTLED if settled else _SOON,
                reader.environment,
                mark.object_type,
                mark.object_id,
                mark.marked_at,
            )

    await for_each(marks, one, _AT_ONCE)


async def _refresh(reader: fetching.StripeReader, mark: _Mark) -> bool:
    """Fetch the object. Returns whether the response is late enough to decide."""
    if (kind := KINDS.get(mark.object_type)) is not None:
        found = await fetching.refresh(reader, kind, mark.object_id)
        async with reader.database.connection() as connection:
            query = _DECIDED.format(kind.table, of_stripe(kind.table), kind.key)
            args = (reader.environment, mark.object_id, found.at)
            return bool(await connection.fetchval(query, *args))
    if mark.object_type == INVOICE_PAYMENTS:
        await _link_invoice(reader, mark.object_id)
        return True
    await _find_payment(reader, mark)
    if mark.object_type == "charge":
        await _find_refunds(reader, mark.object_id)
    return True


async def _link_invoice(reader: fetching.StripeReader, invoice_id: str) -> None:
    """Find what paid an invoice. If Stripe lists nothing, it was paid outside Stripe."""
    payment = await _payment(reader, "invoice", invoice_id)
    linked = "payment_intent" in payment.get("refs", {})
    if linked and payment.get("explained") and payment.get("collected"):
        return
    at = await _invoice_payments(reader, {"invoice": invoice_id})
    payment = await _payment(reader, "invoice", invoice_id)
    if at is not None and "paid" in payment and not payment.get("collected"):
        elsewhere = payment_elsewhere(invoice_id, payment["paid"])
        await show_event(reader, Event("", "invoice_payment.paid", at, elsewhere, None))


async def _find_payment(reader: fetching.StripeReader, mark: _Mark) -> None:
    """Fetch the amount of the payment of a refund, or of a refunded charge."""
    payment = await _payment(reader, mark.object_type, mark.object_id)
    if payment.get("ended"):
        return
    intent_id = payment.get("refs", {}).get("payment_intent")
    if intent_id is None and (charge_id := payment.get("refs", {}).get("charge")):
        charge = (await reader.get("charge", f"/v1/charges/{encoded(charge_id)}", {})).data
        intent_id = id_of(charge.get("payment_intent"))
        if intent_id is None:
            await show_charge(reader, charge)
    if intent_id is None:
        return  # a refund without a payment has its own row
    await show_payment(reader, await payment_intent(reader, intent_id))


async def _find_refunds(reader: fetching.StripeReader, charge_id: str) -> None:
    """Fetch the refunds that make up the refunded amount of a charge."""
    async with reader.database.connection() as connection:
        found = await payments_with(connection, reader.environment, "charge", [charge_id])
    if (payment := found.get(charge_id)) is not None and lacks_refunds(payment, charge_id):
        await show_refunds_of(reader, charge_id)


async def show_payment(reader: fetching.StripeReader, intent: StripeObject) -> None:
    """Mirror the payment of a fetched PaymentIntent, and fetch the invoice that it paid. A manually
    changed row is written again.

    Args:
        intent: with its latest charge, as `payment_intent` returns it.

    Raises:
        LeaseLost: nothing may be written any more.
        BillhookError: a request to Stripe failed, or PostgreSQL is unavailable.
        asyncpg.PostgresError: a rule of the app rejects a row.
    """
    intent_id = intent["id"]
    await _apply_intent(reader, intent)
    if intent.get("status") == "requires_payment_method":
        await _fail_session(reader, intent_id)
    await _invoice_payments(reader, _by_intent(intent_id))

    async def work() -> None:
        async with reader.database.as_service() as connection:
            await reader.check(connection)
            if await connection.fetchval(_IS_KNOWN, reader.environment, intent_id):
                again = PaymentChange(refs={"payment_intent": [intent_id]})
                facts = [Fact(Event("", "", 0, {}), Changes(payment=again))]
                await apply_facts(connection, reader.environment, facts, outside_ledger=True)

    await repeat_collisions(work)


async def show_charge(reader: fetching.StripeReader, charge: StripeObject) -> None:
    """Mirror the payment of a fetched charge of the legacy Charges API, without a PaymentIntent.
    Raises as `show_payment` does."""
    if (created := timestamp(charge.get("created"))) is not None:
        await show_event(reader, Event("", "charge.succeeded", created, charge, None))


async def payment_intent(reader: fetching.StripeReader, intent_id: str) -> StripeObject:
    """A PaymentIntent with its latest charge."""
    return (await reader.get(*_intent_request(intent_id))).data


async def find_payment_intent(reader: fetching.StripeReader, intent_id: str) -> StripeObject | None:
    """A PaymentIntent with its latest charge; None if Stripe has no such PaymentIntent."""
    found = await reader.find(*_intent_request(intent_id))
    return None if found is None else found.data


def _intent_request(intent_id: str) -> tuple[str, str, dict[str, Any]]:
    path = f"/v1/payment_intents/{encoded(intent_id)}"
    return "payment_intent", path, {"expand": ["latest_charge"]}


async def show_refund(reader: fetching.StripeReader, refund: StripeObject, at: int) -> None:
    """Mirror a refund in the state that Stripe reported at `at`. Raises as `show_payment` does."""
    await show_event(reader, Event("", "refund.updated", at, refund, None))


async def show_refunds_of(reader: fetching.StripeReader, charge_id: str) -> None:
    """Fetch the refunds of a charge and mirror them, including known ones that Stripe does not
    list. Raises as `show_payment` does."""
    shown: set[str] = set()
    async for page in list_pages(reader.get, "refund", "/v1/refunds", {"charge": charge_id}):
        for each in page.objects:
            await show_refund(reader, each, page.at)
            shown.add(each["id"])
    async with reader.database.connection() as connection:
        known = await connection.fetch(_REFUNDS_OF, reader.environment, charge_id)
    for (refund_id,) in known:
        if refund_id in shown:
            continue
        if (found := await refund(reader, refund_id)) is not None:
            await show_refund(reader, found.data, found.at)
        else:
            await withdraw_refund(reader, refund_id, page.at)


async def refund(reader: fetching.StripeReader, refund_id: str) -> Fetched | None:
    """A refund; None if it does not exist at Stripe."""
    return await reader.find("refund", f"/v1/refunds/{encoded(refund_id)}")


async def withdraw_refund(reader: fetching.StripeReader, refund_id: str, at: int) -> None:
    """Mark a refund that does not exist at Stripe as failed, because no money was returned. The row
    of one that Stripe never reported is removed. Raises as `show_payment` does.

    Args:
        at: epoch seconds; Stripe did not list it then.
    """
    async with reader.database.as_service() as connection:
        await reader.check(connection)
        told = await connection.fetchrow(_REFUND, reader.environment, refund_id)
        if told is None:
            await connection.execute(_REMOVE_REFUND, reader.environment, refund_id)
    if told is not None:
        await show_refund(reader, {**told, "status": "canceled"}, at)


async def _apply_intent(reader: fetching.StripeReader, intent: StripeObject) -> None:
    """Apply a fetched PaymentIntent as its event would have been, if its outcome is final."""
    charge = intent.get("latest_charge")
    if (created := timestamp(hash_of(charge).get("created"))) is not None:
        for event in of_intent(intent, created):
            await show_event(reader, event)


async def _fail_session(reader: fetching.StripeReader, intent_id: str) -> None:
    """Mirror the result of the Checkout Session whose payment failed days after its completion."""
    payment = await _payment(reader, "payment_intent", intent_id)
    session_id = payment.get("refs", {}).get("checkout_session")
    if session_id is None:
        return
    found = await reader.find(
        "checkout_session",
        f"/v1/checkout/sessions/{encoded(session_id)}",
        {"expand": ["payment_intent", "subscription"]},
    )
    if found is not None:
        for event in of_session(found.data, found.at):
            await show_event(reader, event)


async def invoices_paid_by(reader: fetching.StripeReader, intent_id: str) -> list[str]:
    """The ids of the invoices that a PaymentIntent paid."""
    page = await _list_invoice_payments(reader, _by_intent(intent_id))
    return [found for each in page.objects if (found := id_of(each.get("invoice")))]


def _by_intent(intent_id: str) -> Mapping[str, Any]:
    return {"payment": {"type": "payment_intent", "payment_intent": intent_id}}


async def _list_invoice_payments(
    reader: fetching.StripeReader, which: Mapping[str, Any]
) -> ListPage:
    return await list_page(reader.get, "invoice_payment", "/v1/invoice_payments", which)


async def _invoice_payments(reader: fetching.StripeReader, which: Mapping[str, Any]) -> int | None:
    """Mirror payments of invoices. Returns the time of the response if none of them counts."""
    page = await _list_invoice_payments(reader, which)
    for each in page.objects:
        await show_event(reader, Event("", "invoice_payment.paid", page.at, each, None))
    counts = any(each.get("status") != "canceled" for each in page.objects)
    return None if counts else page.at


async def _payment(
    reader: fetching.StripeReader, object_type: str, object_id: str
) -> Mapping[str, Any]:
    async with reader.database.connection() as connection:
        row = await connection.fetchrow(_PAYMENT, reader.environment, object_type, object_id)
    # None if no other object of the payment is known.
    return {name: value for name, value in row.items() if value is not None} if row else {}


async def show_event(reader: fetching.StripeReader, event: Event) -> None:
    """Apply fetched facts in the form of an event. They are not in the ledger, and no trigger on it
    fires; they are stored separately for rebuilds."""
    facts = [Fact(event, changes_of_fetched(event))]
    told = (event.type, reported_by(event), event.created, event.object)

    async def work() -> None:
        async with reader.database.as_service() as connection:
            await reader.check(connection)
            await apply_facts(connection, reader.environment, facts, outside_ledger=True)
            await connection.execute(_KEEP, reader.environment, *told)

    await repeat_collisions(work)
