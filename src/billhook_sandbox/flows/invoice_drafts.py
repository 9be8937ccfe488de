"""Draft invoices: subscription items and pending invoice items."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows.usage_billing import usage_between
from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.objects.invoice import invoice_item_line, item_line, make_draft
from billhook_sandbox.store import DataSet, Json


def product_name(data: DataSet, price: Json) -> str:
    product = data.get("product", price["product"])
    return str(product["name"]) if product else "Deleted product"


def item_lines(
    data: DataSet,
    invoice: str,
    items: list[Json],
    trial: bool = False,
    customer: str | None = None,
) -> list[Json]:
    """With a customer, metered items are billed for their usage in the period that they show."""
    return [
        item_line(
            data,
            invoice,
            item,
            product_name(data, item["price"]),
            trial,
            used_units(data, item, customer) if customer else None,
        )
        for item in items
    ]


def used_units(data: DataSet, item: Json, customer: str) -> int | None:
    if not is_metered(item["price"]):
        return None
    start, end = item["current_period_start"], item["current_period_end"]
    return usage_between(data, item["price"], customer, start, end)


def pending_lines(
    data: DataSet, invoice: str, customer: str, currency: str, subscription: str | None
) -> list[Json]:
    """The customer's pending invoice items, which now belong to this invoice."""
    lines = []
    for item in data.all("invoiceitem").where("customer", customer):
        details = (item["parent"] or {}).get("subscription_details") or {}
        if item["invoice"] or item["currency"] != currency:
            continue
        if details.get("subscription") not in (None, subscription):
            continue
        item = change(data, item, invoice=invoice)
        lines.append(invoice_item_line(data, invoice, item))
    return lines


def draft_invoice(
    data: DataSet,
    invoice_id: str,
    subscription: Json,
    items: list[Json],
    reason: str,
    trial: bool = False,
) -> Json:
    """Creates the draft for these items and all pending invoice items; emits `invoice.created`."""
    customer = data.need("customer", subscription["customer"])
    lines = pending_lines(
        data, invoice_id, customer["id"], subscription["currency"], subscription["id"]
    )
    # At a renewal, metered items show the period that has ended.
    billed = customer["id"] if reason == "subscription_cycle" else None
    lines += item_lines(data, invoice_id, items, trial, billed)
    draft = make_draft(
        data,
        invoice_id,
        customer,
        lines,
        reason,
        subscription=subscription,
        collection_method=subscription["collection_method"],
        due_date=due_date(data, subscription),
    )
    emit(data, "invoice.created", draft)
    return draft


def due_date(data: DataSet, subscription: Json) -> int | None:
    days = subscription["days_until_due"]
    return None if days is None else data.clock.now() + int(days) * 86400
