"""Draft invoices: subscription items and pending invoice items."""

from collections.abc import Collection, Iterator

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows.subscription_discounts import current_discounts, end_used_discounts
from billhook_sandbox.flows.usage_billing import put_usage_lines, usage_between, usage_period
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
) -> list[Json]:
    return [
        item_line(data, invoice, item, product_name(data, item["price"]), trial) for item in items
    ]


def usage_line(data: DataSet, invoice: str, item: Json, customer: str) -> Json:
    """The line for the usage of a metered item in the period that the item shows."""
    start, end = usage_period(data, item)
    used = usage_between(data, item["price"], item["id"], customer, start, end)
    item = {**item, "current_period_start": start}
    return item_line(data, invoice, item, product_name(data, item["price"]), used=used)


def pending_items(
    data: DataSet, customer: str, currency: str, subscription: str | None
) -> Iterator[Json]:
    """The customer's invoice items that the next invoice includes."""
    for item in data.all("invoiceitem").where("customer", customer):
        details = (item["parent"] or {}).get("subscription_details") or {}
        is_included = details.get("subscription") in (None, subscription)
        if item["invoice"] is None and item["currency"] == currency and is_included:
            yield item


def pending_lines(
    data: DataSet, invoice: str, customer: str, currency: str, subscription: str | None
) -> list[Json]:
    """The customer's pending invoice items, which now belong to this invoice."""
    return [
        invoice_item_line(data, invoice, change(data, item, invoice=invoice))
        for item in pending_items(data, customer, currency, subscription)
    ]


def draft_invoice(
    data: DataSet,
    invoice_id: str,
    subscription: Json,
    items: list[Json],
    reason: str,
    trial: bool = False,
    arrears: Collection[str] = (),
) -> Json:
    """Creates the draft for these items and all pending invoice items; emits `invoice.created`.
    `arrears` has the ids of the metered items whose usage in the period that they show is billed.
    A discount that applies once then ends, so the caller must read the subscription again. (On the
    first invoice, it ends when the caller has emitted the event of the new subscription.)"""
    customer = data.need("customer", subscription["customer"])
    lines = pending_lines(
        data, invoice_id, customer["id"], subscription["currency"], subscription["id"]
    )
    for item in items:
        if item["id"] in arrears:
            lines.append(usage_line(data, invoice_id, item, customer["id"]))
        else:
            lines += item_lines(data, invoice_id, [item], trial)
    put_usage_lines(data, invoice_id, arrears)
    draft = make_draft(
        data,
        invoice_id,
        customer,
        lines,
        reason,
        subscription=subscription,
        collection_method=subscription["collection_method"],
        discounts=current_discounts(data, subscription),
        due_date=due_date(data, subscription),
    )
    emit(data, "invoice.created", draft)
    if reason != "subscription_create":
        end_used_discounts(data, draft)
    return draft


def due_date(data: DataSet, subscription: Json) -> int | None:
    days = subscription["days_until_due"]
    return None if days is None else data.clock.now() + int(days) * 86400
