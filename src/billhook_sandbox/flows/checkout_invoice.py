"""The invoice of a one-time payment, for sessions with `invoice_creation`."""

from billhook_sandbox.flows.checkout_subscription import PaidInvoice, emit_invoice_events
from billhook_sandbox.flows.invoice_lifecycle import finalize, settle_invoice
from billhook_sandbox.objects.invoice import invoice_item_line, make_draft
from billhook_sandbox.objects.invoice_item import make_invoice_item
from billhook_sandbox.objects.payment_method import NO_ADDRESS
from billhook_sandbox.store import DataSet, Json

__all__ = ["create", "emit_invoice_events"]


def create(data: DataSet, session: Json, customer: Json, intent: Json) -> PaidInvoice:
    """Emits no events: the caller decides their order."""
    record, invoice_id = data.need("_checkout", session["id"]), data.ids.new("invoice")
    items = [invoice_item(data, customer, invoice_id, item) for item in record["line_items"]]
    lines = [invoice_item_line(data, invoice_id, item) for item in items]
    given = session["invoice_creation"]["invoice_data"]
    draft = make_draft(
        data,
        invoice_id,
        customer,
        lines,
        "manual",
        automatic_tax=session["automatic_tax"] | {"disabled_reason": None},
        currency=session["currency"],
        custom_fields=given["custom_fields"],
        description=given["description"],
        discounts=[each["id"] for each in record["discounts"]],
        footer=given["footer"],
        metadata=given["metadata"],
        shipping_cost=shipping_cost(session, record),
        shipping_details=shipping_details(intent),
    )
    opened = finalize(data, draft)
    return PaidInvoice(draft, opened, settle_invoice(data, opened, intent))


def invoice_item(data: DataSet, customer: Json, invoice: str, item: Json) -> Json:
    return make_invoice_item(
        data,
        customer,
        item["amount_subtotal"],
        item["currency"],
        price=item["price"],
        description=item["description"],
        invoice=invoice,
        quantity=item["quantity"],
        quantity_decimal=str(item["quantity"]),
    )


def shipping_cost(session: Json, record: Json) -> Json | None:
    cost = session["shipping_cost"]
    if cost is None:
        return None
    return {**cost, "taxes": record["shipping_taxes"]}


def shipping_details(intent: Json) -> Json | None:
    found = intent["shipping"]
    return found and {**found, "address": {**NO_ADDRESS, **found["address"]}}
