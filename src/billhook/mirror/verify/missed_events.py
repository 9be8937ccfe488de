"""Repairs with Stripe's event list: listed events are applied like any other event."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from billhook.account.endpoint_events import received
from billhook.errors import ObjectLocked
from billhook.ledger import EventNotApplied, EventNotRecorded, Ledger, OtherAccount, decode
from billhook.ledger.replaying import project_again
from billhook.mirror import event_list
from billhook.mirror.fetching import StripeReader

# The objects of a payment: an invoice reports it without naming its PaymentIntent.
_PARTS = """
SELECT other.object_id FROM billhook.payment_refs of
JOIN billhook.payment_refs other USING (payment_id)
WHERE of.environment = $1 AND of.object_type = 'payment_intent' AND of.object_id = $2
  AND other.object_type IN ('invoice', 'checkout_session')
"""
_AROUND = (5, 600)
"""Seconds before and after an object's creation in which its events are searched."""


async def apply_events(
    reader: StripeReader, ledger: Ledger, payment_id: str, parts: Sequence[str], created: int
) -> None:
    """Apply the events of a payment from around the time it was made: those that the ledger lacks
    as if they had just arrived, the others again, without the app's triggers.

    Events that cannot be applied are skipped: those recorded as failed are retried later, and those
    that belong to another account are not applied.

    Args:
        payment_id: of the PaymentIntent or the refund.
        parts: the ids of its charge and invoices, or of the refund.
    """
    before, after = _AROUND
    async with reader.database.connection() as connection:
        known = await connection.fetch(_PARTS, reader.environment, payment_id)
    types = await received(reader.database, reader.environment)
    named = [each.encode() for each in (payment_id, *parts, *(id for (id,) in known))]
    events: list[bytes] = []
    async for page in event_list.pages(reader, created - before, created + after):
        listed = map(orjson.dumps, event_list.applicable(reader.environment, types, page.objects))
        events += [each for each in listed if any(name in each for name in named)]
    for each in reversed(events):
        delivery = decode(each)
        try:
            entry = await ledger.record(reader.environment, delivery, reader.lease)
            if entry.processing_status == "processed" and not entry.handled:
                await project_again(reader.database, reader.environment, delivery)
        except (EventNotApplied, EventNotRecorded, OtherAccount, ObjectLocked):
            continue
