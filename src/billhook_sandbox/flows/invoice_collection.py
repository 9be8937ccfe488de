"""Collecting an invoice by itself, and what becomes of its subscription (stripe-facts 16–19)."""

from billhook_sandbox.cards import Card
from billhook_sandbox.errors import CardError
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_lifecycle
from billhook_sandbox.flows.subscription_cancellation import ENDED, cancel_now
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

DAY = 86400
RETRY_DAYS = (2, 2, 2, 2, 2, 2, 2)
"""Eight tries within two weeks, the default of an account (stripe-facts 18)."""


def finalize_due(data: DataSet, invoice: str) -> None:
    """The hour as a draft is over."""
    draft = data.get("invoice", invoice)
    if draft is None or draft["status"] != "draft" or not draft["auto_advance"]:
        return
    advance_invoice(data, draft)


def advance_invoice(data: DataSet, draft: Json, card: Card | None = None) -> Json:
    """Finalize, and collect unless the subscription's collection is paused."""
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
    """One automatic try; what follows is planned."""
    if not invoice["amount_due"]:
        return paid(data, invoice_lifecycle.pay_nothing(data, invoice))
    method = invoice_lifecycle.method_for(data, invoice)
    found = method and invoice_lifecycle.try_to_pay(
        data, invoice, method, off_session=True, card=card
    )
    if isinstance(found, dict):
        return paid(data, found)
    return failed(data, invoice)


def paid(data: DataSet, invoice: Json) -> Json:
    """Paying returns a subscription to `active` (stripe-facts 18)."""
    subscription = invoice_lifecycle.subscription_of(data, invoice)
    if subscription and subscription["status"] in ("incomplete", "past_due", "unpaid"):
        change(data, subscription, "customer.subscription.updated", status="active")
    return invoice


def failed(data: DataSet, invoice: Json) -> Json:
    """Told, and planned anew; after the last try the subscription ends."""
    count = invoice["attempt_count"] + 1
    again = count <= len(RETRY_DAYS)
    retry = data.clock.now() + RETRY_DAYS[count - 1] * DAY if again else None
    after = change(data, invoice, attempted=True, attempt_count=count, next_payment_attempt=retry)
    emit(data, "invoice.payment_failed", after)
    if retry:
        schedule_at(data, retry, "retry_invoice", invoice=after["id"])
    subscription = invoice_lifecycle.subscription_of(data, after)
    if subscription and subscription["status"] == "active":
        change(data, subscription, "customer.subscription.updated", status="past_due")
    if subscription and not again and subscription["status"] not in ENDED:
        cancel_now(data, subscription, {"reason": "payment_failed"})
    return after


def retry_due(data: DataSet, invoice: str) -> None:
    """By then it may have been paid, voided, or tried again by hand."""
    found = data.get("invoice", invoice)
    if found is None or found["status"] != "open" or found["next_payment_attempt"] is None:
        return
    subscription = invoice_lifecycle.subscription_of(data, found)
    if subscription and subscription["status"] in ENDED:
        change(data, found, "invoice.updated", next_payment_attempt=None, auto_advance=False)
        return
    if found["next_payment_attempt"] <= data.clock.now():
        collect(data, found)


def pay_by_hand(data: DataSet, invoice: Json, method: Json, off_session: bool) -> Json:
    """Raises the card's error; such a try doesn't move the schedule of the automatic ones."""
    if not invoice["amount_due"]:
        return paid(data, invoice_lifecycle.pay_nothing(data, invoice))
    found = invoice_lifecycle.try_to_pay(data, invoice, method, off_session)
    if isinstance(found, CardError):
        count = invoice["attempt_count"] or 1
        after = change(data, invoice, attempted=True, attempt_count=count)
        emit(data, "invoice.payment_failed", after)
        raise found
    return paid(data, found)
