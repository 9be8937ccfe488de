"""Automatic collection of invoices, and its effect on subscriptions (stripe-facts 16–19)."""

from billhook_sandbox.cards import Card
from billhook_sandbox.errors import CardError
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_lifecycle
from billhook_sandbox.flows.subscription_cancellation import ENDED, cancel_now
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

DAY = 86400
RETRY_DAYS = (2, 2, 2, 2, 2, 2, 2)
"""Eight attempts within two weeks, the account default (stripe-facts 18)."""


def finalize_when_due(data: DataSet, invoice: str) -> None:
    """Runs when the draft period of an hour ends."""
    draft = data.get("invoice", invoice)
    if draft is None or draft["status"] != "draft" or not draft["auto_advance"]:
        return
    advance_invoice(data, draft)


def advance_invoice(data: DataSet, draft: Json, card: Card | None = None) -> Json:
    """Finalizes the draft, then collects it unless the subscription's collection is paused."""
    opened = invoice_lifecycle.finalize_and_emit(data, draft)
    subscription = invoice_lifecycle.subscription_of(data, opened)
    paused = subscription and subscription["pause_collection"]
    if paused:
        if paused["behavior"] == "void":
            return invoice_lifecycle.void(data, opened)
        return invoice_lifecycle.mark_uncollectible(data, opened)
    if opened["collection_method"] == "send_invoice" and opened["amount_due"]:
        emit(data, "invoice.sent", opened)
        return opened
    return collect(data, opened, card)


def collect(data: DataSet, invoice: Json, card: Card | None = None) -> Json:
    """One automatic payment attempt; schedules a retry if it fails."""
    if not invoice["amount_due"]:
        return reactivate_subscription(data, invoice_lifecycle.pay_nothing(data, invoice))
    method = invoice_lifecycle.method_for(data, invoice)
    found = method and invoice_lifecycle.attempt_payment(
        data, invoice, method, off_session=True, card=card
    )
    if isinstance(found, dict):
        return reactivate_subscription(data, found)
    return record_failure(data, invoice)


def reactivate_subscription(data: DataSet, invoice: Json) -> Json:
    """A paid invoice makes its subscription `active` again (stripe-facts 18)."""
    subscription = invoice_lifecycle.subscription_of(data, invoice)
    if subscription and subscription["status"] in ("incomplete", "past_due", "unpaid"):
        change(data, subscription, "customer.subscription.updated", status="active")
    return invoice


def record_failure(data: DataSet, invoice: Json) -> Json:
    """Schedules the next attempt; after the last one, the subscription is canceled."""
    count = invoice["attempt_count"] + 1
    retries = count <= len(RETRY_DAYS)
    retry_at = data.clock.now() + RETRY_DAYS[count - 1] * DAY if retries else None
    after = change(
        data, invoice, attempted=True, attempt_count=count, next_payment_attempt=retry_at
    )
    emit(data, "invoice.payment_failed", after)
    if retry_at:
        schedule_at(data, retry_at, "retry_invoice", invoice=after["id"])
    subscription = invoice_lifecycle.subscription_of(data, after)
    if subscription and subscription["status"] == "active":
        change(data, subscription, "customer.subscription.updated", status="past_due")
    if subscription and not retries and subscription["status"] not in ENDED:
        cancel_now(data, subscription, {"reason": "payment_failed"})
    return after


def retry_when_due(data: DataSet, invoice: str) -> None:
    """Runs at the next attempt, unless the invoice was paid or voided before."""
    found = data.get("invoice", invoice)
    if found is None or found["status"] != "open" or found["next_payment_attempt"] is None:
        return
    subscription = invoice_lifecycle.subscription_of(data, found)
    if subscription and subscription["status"] in ENDED:
        change(data, found, "invoice.updated", next_payment_attempt=None, auto_advance=False)
        return
    if found["next_payment_attempt"] <= data.clock.now():
        collect(data, found)


def pay_manually(data: DataSet, invoice: Json, method: Json, off_session: bool) -> Json:
    """Raises CardError if the payment fails. The schedule of automatic attempts stays the same."""
    if not invoice["amount_due"]:
        return reactivate_subscription(data, invoice_lifecycle.pay_nothing(data, invoice))
    found = invoice_lifecycle.attempt_payment(data, invoice, method, off_session)
    if isinstance(found, CardError):
        count = invoice["attempt_count"] or 1
        after = change(data, invoice, attempted=True, attempt_count=count)
        emit(data, "invoice.payment_failed", after)
        raise found
    return reactivate_subscription(data, found)
