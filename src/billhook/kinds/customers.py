"""Customers. One that Stripe deleted keeps its row, marked `deleted`."""

from __future__ import annotations

from billhook.kinds import kind
from billhook.kinds.kind import Kind
from billhook.kinds.reading import StripeObject


def _has_details(customer: StripeObject) -> bool:
    """Not `{id, deleted: true}`, which Stripe returns for a deleted customer."""
    return customer.get("deleted") is not True or "created" in customer


CUSTOMER = Kind(
    name="customer",
    table="customers",
    key="provider_customer_id",
    columns=(
        kind.text("email"),
        kind.text("name"),
        kind.text("phone"),
        kind.metadata(),
        kind.time("provider_created_at", "created", keep=True),
    ),
    path="/v1/customers",
    expand=("invoice_settings.default_payment_method", "default_source"),
    keeps_expanded=True,
    changed_by=("customer.created", "customer.updated"),
    deleted_by=("customer.deleted",),
    keeps_deleted=True,
    has_provider=True,
    readable=_has_details,
)
