"""Previews of a subscription's next invoice, also after a change of its items. The change is made
in a trial run."""

from collections.abc import Collection

from billhook_sandbox.clock import Clock
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows import proration, subscription_changes
from billhook_sandbox.flows.invoice_drafts import draft_invoice
from billhook_sandbox.flows.subscription_cancellation import ENDED
from billhook_sandbox.flows.subscription_end import final_draft
from billhook_sandbox.flows.subscription_renewal import next_period, next_period_end
from billhook_sandbox.objects.invoice import DRAFT_SECONDS, finalized_invoice
from billhook_sandbox.objects.invoice_totals import lines_of
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
    billed: list[Json] | None = None
    if "items" in details:
        changed = subscription_changes.item_change(data, subscription, details["items"], details)
        at = changed.billing.at if changed.billing.prorates else None
        if mode == "next":
            proration.prorate(data, subscription, *changed)
        subscription, now_due = subscription_changes.apply(data, subscription, changed.after, {})
        if mode == "next" and changed.billing.bills_now:
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
    if mode == "recurring":
        for item in data.all("invoiceitem").where("customer", subscription["customer"]):
            data.remove("invoiceitem", item["id"])
    start, period = next_period_end(data, subscription), next_period(data, subscription)
    data.clock = Clock(lambda: start)
    ends = subscription["cancel_at"] is not None and subscription["cancel_at"] <= start
    if ends:
        invoice = final_draft(data, subscription, preview_id(data), "upcoming")
        if invoice is None or mode == "recurring":
            raise nothing_upcoming(subscription)
    elif mode == "recurring":
        renewed = [item for item in period.items if item["current_period_start"] == start]
        invoice = draft(data, subscription, renewed)
    else:
        invoice = draft(data, subscription, period.billed, period.arrears)
    return {**invoice, "next_payment_attempt": start + DRAFT_SECONDS}


def draft(
    data: DataSet, subscription: Json, items: list[Json], arrears: Collection[str] = ()
) -> Json:
    invoice = preview_id(data)
    return draft_invoice(data, invoice, subscription, items, "upcoming", arrears=arrears)


def preview_id(data: DataSet) -> str:
    return "upcoming_" + data.ids.new("invoice")


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
