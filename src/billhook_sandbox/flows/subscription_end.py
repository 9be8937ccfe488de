"""The end of a subscription that was set to cancel, and the final invoice of one that ends."""

from billhook_sandbox.flows.invoice_drafts import draft_invoice, pending_items
from billhook_sandbox.flows.subscription_cancellation import ENDED, cancel_now
from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.objects.invoice import DRAFT_SECONDS
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json

BILLED = ("active", "past_due", "unpaid")
"""The statuses in which usage is billed."""


def end_subscription(data: DataSet, subscription: str) -> None:
    """Runs when the subscription ends, unless it was resumed or canceled before."""
    found = data.need("subscription", subscription)
    if found["status"] in ENDED or found["cancel_at"] is None:
        return
    if found["cancel_at"] <= data.clock.now():
        end_with_final_invoice(data, found)


def end_with_final_invoice(data: DataSet, subscription: Json) -> None:
    """The final invoice is a draft for an hour, as that of a renewal."""
    draft = final_draft(data, subscription, data.ids.new("invoice"), "subscription_cycle")
    cancel_now(data, data.need("subscription", subscription["id"]), latest_invoice=draft)
    if draft:
        schedule_at(data, draft["created"] + DRAFT_SECONDS, "finalize_invoice", invoice=draft["id"])


def final_draft(data: DataSet, subscription: Json, invoice: str, reason: str) -> Json | None:
    """Bills usage and pending invoice items until now; None if there is neither."""
    end, items = data.clock.now() + 1, items_of(data, subscription["id"])
    metered = [
        {**item, "current_period_end": min(end, item["current_period_end"])}
        for item in items
        if is_metered(item["price"]) and subscription["status"] in BILLED
    ]
    customer, currency = subscription["customer"], subscription["currency"]
    if not metered and not any(pending_items(data, customer, currency, subscription["id"])):
        return None
    arrears = [item["id"] for item in metered]
    return draft_invoice(data, invoice, subscription, metered, reason, arrears=arrears)
