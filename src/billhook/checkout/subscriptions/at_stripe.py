"""Subscriptions at Stripe: read, changed, and written to the mirror before the response.

No database connection is held while Stripe works.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import structlog

from billhook.checkout.live_reader import REPEAT_WITH_KEY, mirroring
from billhook.checkout.subscriptions import requests
from billhook.checkout.subscriptions.plans import ENDED, WITH_INVOICE, is_made
from billhook.checkout.subscriptions.requests import Call, Known
from billhook.checkout.subscriptions.rights import TABLE, Target, not_found
from billhook.errors import BillhookError
from billhook.kinds import SUBSCRIPTION, Kind
from billhook.kinds.invoices import INVOICE
from billhook.kinds.reading import hash_of, id_of, integer, objects, text, timestamp
from billhook.mirror import fetching
from billhook.mirror.fetching import StripeReader
from billhook.models import ChangeRequest, PaymentAction, SubscriptionResponse
from billhook.postgres import Connection
from billhook.reports.lists import subscription as mirrored
from billhook.rows import Fact
from billhook.stripe.gateway import Fetched, StripeObject, is_stored_failure, refusal_of

log = structlog.get_logger(__name__)

_READS = 3
_PAUSE = 1.0  # seconds: the resolution of versions

# Whether the row shows a state that is at least as new as a response, or the same.
_SHOWS = """
SELECT provider_event_at <= pg_catalog.to_timestamp($3::bigint) OR raw = $4::jsonb
FROM payments.stripe_subscriptions WHERE environment = $1 AND subscription_id = $2
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A subscription as Stripe shows it, with all its items.

    Attributes:
        invoice: its latest one, if it was asked for.
        answer: it is Stripe's answer to a change, and not to a read.
    """

    subscription: StripeObject
    invoice: StripeObject | None
    at: int
    answer: bool

    @property
    def facts(self) -> list[Fact]:
        of = fetching.facts_of_answer if self.answer else _facts_of_read
        invoices = [self.invoice] if self.invoice else []
        return [
            *of(SUBSCRIPTION, self.subscription, self.at),
            *fetching.facts_of(INVOICE, invoices, self.at),
        ]


def _facts_of_read(kind: Kind, found: StripeObject, at: int) -> list[Fact]:
    return fetching.facts_of(kind, [found], at)


async def read(reader: StripeReader, target: Target) -> Found:
    """The subscription.

    Raises:
        SubscriptionNotFound: Stripe has none.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: Stripe.
    """
    path = fetching.path_of(SUBSCRIPTION, target.subscription_id)
    try:
        fetched = await reader.gateway.get(reader.environment, path, WITH_INVOICE, key=reader.key)
    except BillhookError as error:
        if error.status == 404:
            raise not_found(target) from error
        raise
    return await _found(reader, fetched, answer=False)


async def carry_out(
    reader: StripeReader, target: Target, order: ChangeRequest, known: Known
) -> Found:
    """Change the subscription.

    Returns:
        Its new state. Stripe repeats its response to a known idempotency key, which may no longer
        be its state: then it is read again.

    Raises:
        SubscriptionNotFound: Stripe has none.
        PaymentConfigInvalid, PaymentMethodDeclined, RateLimited, UpstreamFailure: Stripe.
    """
    found = None
    for number, call in enumerate(known.calls):
        # Stripe may have failed after it made the change.
        if known.attempt > 1 and is_made(call, (await read(reader, target)).subscription):
            continue
        key = requests.stripe_key(target, order, number, known.attempt)
        try:
            found = await _send(reader, target, call, key)
        except BillhookError as error:
            if is_stored_failure(error):
                await requests.next_attempt(target, order, known.attempt)
            raise
    return found or await read(reader, target)


async def _send(
    reader: StripeReader, target: Target, call: Call, idempotency_key: str | None
) -> Found | None:
    """The answer to a call; None if it is an earlier one's."""
    path = f"{fetching.path_of(SUBSCRIPTION, target.subscription_id)}{call.step}"
    try:
        if call.method == "post":
            fetched = await reader.gateway.post(
                reader.environment,
                path,
                call.params,
                idempotency_key=idempotency_key,
                key=reader.key,
            )
        else:
            fetched = await reader.gateway.delete(
                reader.environment, path, call.params, key=reader.key
            )
    except BillhookError as error:
        refusal = refusal_of(error)
        if error.status != 404 or refusal is None or refusal.code != "resource_missing":
            raise
        found = await read(reader, target)  # or there is no such subscription
        # Stripe says that it cannot find a subscription that was canceled before.
        if call.method == "delete" and found.subscription.get("status") in ENDED:
            return None
        raise
    return None if fetched.replayed else await _found(reader, fetched, answer=True)


async def _found(reader: StripeReader, fetched: Fetched, *, answer: bool) -> Found:
    subscription, invoice = fetched.data, None
    latest = subscription.get("latest_invoice")
    if isinstance(latest, dict):
        subscription, invoice = {**subscription, "latest_invoice": latest.get("id")}, latest
    await fetching.complete_children(reader, SUBSCRIPTION, subscription)
    return Found(subscription, invoice, fetched.at, answer)


async def mirror(
    reader: StripeReader, target: Target, order: ChangeRequest, found: Found
) -> SubscriptionResponse:
    """Write a state to the mirror, and respond with what the mirror shows.

    Raises:
        SubscriptionNotFound: the mirror cannot show it.
        LeaseLost: another account was connected in the meantime.
        DatabaseRefused: a rule of the app rejects the row.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    for attempt in range(_READS):
        also = partial(_also, target=target, order=order, found=found)
        what = f"Stripe has changed {target.subscription_id}"
        with mirroring(what, TABLE, REPEAT_WITH_KEY):
            await fetching.write(reader, found.facts, also)
        if found.answer or await _is_shown(target, found) or attempt == _READS - 1:
            break
        # The row shows an event of the second in which the state was read: before or after it?
        await asyncio.sleep(_PAUSE)
        found = await read(reader, target)
    shown = await mirrored(target.database, target.environment, target.subscription_id)
    if shown is None:
        raise not_found(target)
    return SubscriptionResponse(
        subscription=shown, payment_action=await _payment_action(reader, found)
    )


async def _also(
    connection: Connection, *, target: Target, order: ChangeRequest, found: Found
) -> None:
    await requests.finish(connection, target, order)
    if found.answer:
        await fetching.queue_refresh(
            connection,
            target.environment,
            SUBSCRIPTION,
            target.subscription_id,
            "changed by a request",
        )


async def _is_shown(target: Target, found: Found) -> bool:
    key = (target.environment, target.subscription_id)
    async with target.database.connection() as connection:
        return bool(await connection.fetchval(_SHOWS, *key, found.at, found.subscription))


async def _payment_action(reader: StripeReader, found: Found) -> PaymentAction | None:
    """The payment of the latest invoice, if someone must act."""
    invoice = found.invoice
    if (
        invoice is None
        or invoice.get("status") != "open"
        or invoice.get("collection_method") != "charge_automatically"
        or not (due := integer(invoice.get("amount_remaining")))
    ):
        return None
    statuses = await _payment_statuses(reader, invoice["id"])
    if statuses & {"processing", "succeeded"}:
        return None  # such as a bank debit: the money is on its way
    expires_at = timestamp(hash_of(found.subscription.get("pending_update")).get("expires_at"))
    return PaymentAction(
        reason="requires_action" if "requires_action" in statuses else "requires_payment_method",
        invoice_id=invoice["id"],
        amount_due=due,
        currency=str(invoice.get("currency")),
        url=text(invoice.get("hosted_invoice_url")),
        expires_at=None if expires_at is None else datetime.fromtimestamp(expires_at, UTC),
    )


async def _payment_statuses(reader: StripeReader, invoice_id: str) -> set[str]:
    """The statuses of the PaymentIntents of an invoice. Empty if they cannot be read: the change
    itself has been made."""
    params = {"invoice": invoice_id, "expand": ["data.payment.payment_intent"]}
    try:
        page = await reader.gateway.get(
            reader.environment, "/v1/invoice_payments", params, key=reader.key
        )
    except BillhookError as error:
        log.warning("the payments of an invoice cannot be read", reason=error.message)
        return set()
    intents = [hash_of(each.get("payment")).get("payment_intent") for each in objects(page.data)]
    return {str(hash_of(intent).get("status")) for intent in intents if id_of(intent)}
