"""Cancels a subscription immediately, with a credit and a final invoice on request."""

from billhook_sandbox.flows import invoice_collection, proration
from billhook_sandbox.flows.subscription_cancellation import cancel_now
from billhook_sandbox.flows.subscription_end import final_draft
from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.store import DataSet, Json


def cancel(
    data: DataSet,
    subscription: Json,
    details: Json | None = None,
    *,
    prorate: bool = False,
    invoice_now: bool = False,
) -> Json:
    """Without a final invoice, usage that was not billed yet is discarded."""
    subscription_id = subscription["id"]
    if prorate and subscription["status"] in ("active", "past_due"):
        for item in items_of(data, subscription_id):
            if not is_metered(item["price"]):
                proration.credit_rest(data, subscription, item, data.clock.now())
    draft = None
    if invoice_now:
        invoice = data.ids.new("invoice")
        draft = final_draft(data, subscription, invoice, "subscription_update")
    subscription = data.need("subscription", subscription_id)
    canceled = cancel_now(data, subscription, details, latest_invoice=draft)
    if draft:
        invoice_collection.advance_invoice(data, draft)
    return canceled
