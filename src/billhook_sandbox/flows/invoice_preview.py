"""Previews of a subscription's next invoice, also after a change of its items. The change is made
in a scratch copy of the data."""

from billhook_sandbox.clock import Clock
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows import proration, subscription_changes
from billhook_sandbox.flows.invoice_drafts import draft_invoice
from billhook_sandbox.flows.subscription_cancellation import ENDED
from billhook_sandbox.flows.subscription_renewal import next_period_end
from billhook_sandbox.objects.invoice import DRAFT_SECONDS, finalized_invoice
from billhook_sandbox.objects.invoice_totals import lines_of
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json

BALANCE = ("amount_due", "amount_remaining", "ending_balance", "starting_balance")


def preview(data: DataSet, subscription: Json, details: Json, mode: str) -> Json:
    """`details` has the `subscription_details` of the request."""
    if subscription["status"] in ENDED:
        raise nothing_upcoming(subscription)
    scratch, at = data.scratch(), None
    behavior = details.get("proration_behavior", "create_prorations")
    billed: list[Json] | None = None
    if "items" in details:
        changed = subscription_changes.item_change(scratch, subscription, details["items"], details)
        if behavior != "none":
            at = changed.at
            if mode == "next":
                proration.prorate(scratch, subscription, changed.before, changed.after, at)
        subscription, now_due = subscription_changes.apply(scratch, subscription, changed.after, {})
        if mode == "next" and (changed.new_interval or behavior == "always_invoice"):
            billed = now_due
    invoice = invoice_now(scratch, subscription, billed) if billed is not None else None
    if invoice is None or not lines_of(scratch, invoice["id"]):
        invoice = renewal(scratch, subscription, mode)
    # Its lines can be listed later, by the id of the preview.
    data.put(scratch.need("_invoice_lines", invoice["id"]))
    return shown(scratch, invoice, at)


def nothing_upcoming(subscription: Json) -> InvalidRequest:
    return InvalidRequest(
        f"No upcoming invoices for customer: {subscription['customer']}",
        code="invoice_upcoming_none",
        status=404,
    )


def invoice_now(scratch: DataSet, subscription: Json, billed: list[Json]) -> Json:
    """The invoice that the change creates."""
    invoice = draft(scratch, subscription, billed)
    return {**invoice, "next_payment_attempt": scratch.clock.now()}


def renewal(scratch: DataSet, subscription: Json, mode: str) -> Json:
    """The invoice at the end of the period; `recurring` is only what each period costs."""
    start = next_period_end(scratch, subscription)
    cancel_at = subscription["cancel_at"]
    if cancel_at is not None and cancel_at <= start:
        raise nothing_upcoming(subscription)
    if mode == "recurring":
        for item in scratch.all("invoiceitem").where("customer", subscription["customer"]):
            scratch.remove("invoiceitem", item["id"])
    renewed = []
    for item in items_of(scratch, subscription["id"]):
        if item["current_period_end"] == start:
            anchor = subscription["billing_cycle_anchor"]
            end = period_end(start, item["price"]["recurring"], anchor)
            renewed.append({**item, "current_period_start": start, "current_period_end": end})
    scratch.clock = Clock(lambda: start)
    invoice = draft(scratch, subscription, renewed)
    return {**invoice, "next_payment_attempt": start + DRAFT_SECONDS}


def draft(scratch: DataSet, subscription: Json, items: list[Json]) -> Json:
    invoice_id = "upcoming_" + scratch.ids.new("invoice")
    return draft_invoice(scratch, invoice_id, subscription, items, "upcoming")


def shown(scratch: DataSet, invoice: Json, at: int | None) -> Json:
    """With the amount that is due after the customer's balance."""
    customer = scratch.need("customer", invoice["customer"])
    finalized = finalized_invoice(scratch, invoice, customer)
    details = {
        **invoice["parent"]["subscription_details"],
        **({} if at is None else {"subscription_proration_date": at}),
    }
    return {
        **invoice,
        **{name: finalized[name] for name in BALANCE},
        "auto_advance": False,
        "automatically_finalizes_at": None,
        "parent": {**invoice["parent"], "subscription_details": details},
    }
