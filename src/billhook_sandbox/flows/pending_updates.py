"""Changes of subscriptions that wait for a payment: `pending_if_incomplete` and
`default_incomplete`."""

from collections.abc import Callable

from billhook_sandbox.errors import CardError
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_lifecycle
from billhook_sandbox.flows.invoice_drafts import draft_invoice
from billhook_sandbox.objects.invoice import make_invoice_payment
from billhook_sandbox.objects.payment_intent import make_intent
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

PENDING_SECONDS = 23 * 3600

Apply = Callable[[DataSet, Json, list[Json], Json], tuple[Json, list[Json]]]


def change_if_paid(
    data: DataSet, subscription: Json, after: list[Json], apply: Apply, values: Json
) -> Json:
    """Bills the change first. If the payment fails, the subscription stays as it is, with a
    `pending_update` that is applied once the invoice is paid."""
    with data.trial_run():
        _, billed = apply(data, subscription, after, {})
    invoice = open_invoice(data, subscription, billed)
    subscription = data.need("subscription", subscription["id"])
    if is_paid(data, invoice):
        return apply(data, subscription, after, values)[0]
    ends = [item["current_period_end"] for item in items_of(data, subscription["id"])]
    expires_at = min(data.clock.now() + PENDING_SECONDS, *ends)
    data.put(
        {
            "id": subscription["id"],
            "object": "_pending_update",
            "invoice": invoice["id"],
            "items": after,
            "metadata": values.get("metadata"),
        }
    )
    schedule_at(data, expires_at, "expire_pending_update", subscription=subscription["id"])
    pending = {
        "cancel_at_period_end": None,
        "discount": None,
        "discounts": None,
        "metadata": values.get("metadata"),
        "billing_cycle_anchor": None,
        "expires_at": expires_at,
        "subscription_items": after,
        "trial_end": None,
        "trial_from_plan": None,
    }
    return change(data, subscription, "customer.subscription.updated", pending_update=pending)


def is_paid(data: DataSet, invoice: Json) -> bool:
    """Attempts the payment of an open invoice."""
    if not invoice["amount_due"]:
        invoice_lifecycle.pay_nothing(data, invoice)
        return True
    method = invoice_lifecycle.method_for(data, invoice)
    if method is None:
        return False
    found = invoice_lifecycle.attempt_payment(data, invoice, method, off_session=False)
    if isinstance(found, CardError):
        failed = change(data, invoice, attempted=True, attempt_count=1)
        emit(data, "invoice.payment_failed", failed)
        return False
    return True


def apply_when_paid(data: DataSet, invoice: Json, apply: Apply) -> None:
    """Applies the pending update whose invoice has been paid."""
    subscription = invoice_lifecycle.subscription_of(data, invoice)
    pending = subscription and data.get("_pending_update", subscription["id"])
    if not subscription or not pending or pending["invoice"] != invoice["id"]:
        return
    data.remove("_pending_update", subscription["id"])
    values: Json = {"pending_update": None}
    if pending["metadata"]:
        values["metadata"] = {**subscription["metadata"], **pending["metadata"]}
    subscription, _ = apply(data, subscription, pending["items"], values)
    emit(data, "customer.subscription.pending_update_applied", subscription)


def discard(data: DataSet, subscription: Json) -> Json:
    """A new change replaces one that is still pending; voids its invoice."""
    pending = data.get("_pending_update", subscription["id"])
    if pending is None:
        return subscription
    invoice = data.need("invoice", pending["invoice"])
    if invoice["status"] == "open":
        invoice_lifecycle.void(data, invoice)
    return forget(data, subscription)


def forget(data: DataSet, subscription: Json) -> Json:
    data.remove("_pending_update", subscription["id"])
    return change(data, subscription, "customer.subscription.updated", pending_update=None)


def forget_when_voided(data: DataSet, invoice: Json) -> None:
    """Voiding the invoice of a pending update cancels the update."""
    subscription = invoice_lifecycle.subscription_of(data, invoice)
    pending = subscription and data.get("_pending_update", subscription["id"])
    if subscription and pending and pending["invoice"] == invoice["id"]:
        forget(data, subscription)


def expire_pending_update(data: DataSet, subscription: str) -> None:
    """Runs when a pending update expires, unless it was applied before."""
    found = data.get("subscription", subscription)
    pending = data.get("_pending_update", subscription)
    update = found and found["pending_update"]
    if not found or not pending or not update or update["expires_at"] > data.clock.now():
        return
    emit(data, "customer.subscription.pending_update_expired", discard(data, found))


def bill_later(data: DataSet, subscription: Json, billed: list[Json]) -> Json:
    """Opens the invoice of a change, for the app to confirm its payment. Until then, the
    subscription is `past_due`."""
    invoice = open_invoice(data, subscription, billed)
    subscription = data.need("subscription", subscription["id"])
    if not invoice["amount_due"]:
        invoice_lifecycle.pay_nothing(data, invoice)
        return subscription
    intent = make_intent(
        data,
        invoice["amount_due"],
        invoice["currency"],
        invoice["customer"],
        {"type": "card"},
        description="Subscription update",
        setup_future_usage="off_session",
    )
    make_invoice_payment(data, invoice, intent["id"])
    emit(data, "payment_intent.created", intent)
    return change(data, subscription, "customer.subscription.updated", status="past_due")


def open_invoice(data: DataSet, subscription: Json, billed: list[Json]) -> Json:
    """The finalized invoice for pending invoice items and the new periods of these items."""
    invoice_id = data.ids.new("invoice")
    subscription = change(
        data, subscription, "customer.subscription.updated", latest_invoice=invoice_id
    )
    draft = draft_invoice(data, invoice_id, subscription, billed, "subscription_update")
    return invoice_lifecycle.finalize_and_emit(data, draft)
