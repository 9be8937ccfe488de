"""What goes into an invoice: the items of a subscription, and what waits for the next one."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects import invoices
from billhook_sandbox.store import DataSet, Json


def product_name(data: DataSet, price: Json) -> str:
    product = data.get("product", price["product"])
    return str(product["name"]) if product else "Deleted product"


def item_lines(data: DataSet, invoice: str, items: list[Json], trial: bool = False) -> list[Json]:
    return [
        invoices.item_line(data, invoice, item, product_name(data, item["price"]), trial)
        for item in items
    ]


def pending_lines(
    data: DataSet, invoice: str, customer: str, currency: str, subscription: str | None
) -> list[Json]:
    """Invoice items that waited for this invoice; they belong to it from now on."""
    lines = []
    for item in data.all("invoiceitem").where("customer", customer):
        of = ((item["parent"] or {}).get("subscription_details") or {}).get("subscription")
        if item["invoice"] or item["currency"] != currency or of not in (None, subscription):
            continue
        item = change(data, item, invoice=invoice)
        lines.append(invoices.invoice_item_line(data, invoice, item))
    return lines


def draft_invoice(
    data: DataSet,
    name: str,
    subscription: Json,
    items: list[Json],
    reason: str,
    trial: bool = False,
) -> Json:
    """The draft for these items and all that is pending, told."""
    customer = data.need("customer", subscription["customer"])
    lines = pending_lines(data, name, customer["id"], subscription["currency"], subscription["id"])
    lines += item_lines(data, name, items, trial)
    draft = invoices.make_draft(
        data,
        name,
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
