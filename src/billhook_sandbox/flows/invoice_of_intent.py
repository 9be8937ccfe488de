"""Pays the invoice whose payment intent the customer has confirmed, for example after a renewal
required authentication."""

from billhook_sandbox.api_versions import invoice_of
from billhook_sandbox.flows import invoice_collection, invoice_lifecycle, subscription_changes
from billhook_sandbox.flows.pending_updates import apply_when_paid
from billhook_sandbox.store import DataSet, Json


def settle_invoice_of(data: DataSet, intent: Json) -> None:
    invoice = data.get("invoice", invoice_of(data, intent["customer"], intent["id"]))
    if invoice is None or invoice["status"] != "open":
        return
    paid = invoice_lifecycle.settle_invoice(data, invoice, intent)
    invoice_lifecycle.emit_paid(data, paid)
    invoice_collection.reactivate_subscription(data, paid)
    apply_when_paid(data, paid, subscription_changes.apply)
