"""Previews of a subscription's next invoice, also after a change of its items. The change is made
in a trial run."""

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
    with data.trial_run():
        shown_invoice, lines = try_out(data, subscription, details, mode)
    data.put(lines)  # They can be listed later, by the id of the preview.
    return shown_invoice


def try_out(data: DataSet, subscription: Json, details: Json, mode: str) -> tuple[Json, Json]:
    """The preview and the record of its lines."""
    at = None
    behavior = details.get("proration_behavior", "create_prorations")
    billed: list[Json] | None = None
    if "items" in details:
        changed = subscription_changes.item_change(data, subscription, details["items"], details)
        if behavior != "none":
            at = changed.at
            if mode == "next":
                proration.prorate(data, subscription, changed.before, changed.after, at)
        subscription, now_due = subscription_changes.apply(data, subscription, changed.after, {})
        if mode == "next" and (changed.new_interval or behavior == "always_invoice"):
            billed = now_due
    invoice = invoice_now(data, subscription, billed) if billed is not None else None
    if invoice is None or not lines_of(data, invoice["id"]):
        invoice = renewal(data, subscription, mode)
    return shown(data, invoice, at), data.need("_invoice_lines", invoice["id"])


def nothing_upcoming(subscription: Json) -> InvalidRequest:
    return InvalidRequest(
        f"No upcoming invoices for customer: {subscription['customer']}",
        code="invoice_upcoming_none",
        status=404,
    )


def invoice_now(data: DataSet, subscription: Json, billed: list[Json]) -> Json:
    """The invoice that the change creates."""
    invoice = draft(data, subscription, billed)
    return {**invoice, "next_payment_attempt": data.clock.now()}


def renewal(data: DataSet, subscription: Json, mode: str) -> Json:
    """The invoice at the end of the period; `recurring` is only what each period costs."""
    start = next_period_end(data, subscription)
    cancel_at = subscription["cancel_at"]
    if cancel_at is not None and cancel_at <= start:
        raise nothing_upcoming(subscription)
    if mode == "recurring":
        for item in data.all("invoiceitem").where("customer", subscription["customer"]):
            data.remove("invoiceitem", item["id"])
    renewed = []
    for item in items_of(data, subscription["id"]):
        if item["current_period_end"] == start:
            anchor = subscription["billing_cycle_anchor"]
            end = period_end(start, item["price"]["recurring"], anchor)
            renewed.append({**item, "current_period_start": start, "current_period_end": end})
    data.clock = Clock(lambda: start)
    invoice = draft(data, subscription, renewed)
    return {**invoice, "next_payment_attempt": start + DRAFT_SECONDS}


def draft(data: DataSet, subscription: Json, items: list[Json]) -> Json:
    invoice_id = "upcoming_" + data.ids.new("invoice")
    return draft_invoice(data, invoice_id, subscription, items, "upcoming")


def shown(data: DataSet, invoice: Json, at: int | None) -> Json:
    """With the amount that is due after the customer's balance."""
    customer = data.need("customer", invoice["customer"])
    finalized = finalized_invoice(data, invoice, customer)
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
