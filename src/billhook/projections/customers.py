"""customer.* → `payments.customers`."""

from __future__ import annotations

from billhook.projections.changes import NOTHING, Changes, CustomerRow, Event
from billhook.projections.shapes import StripeObject, id_of, metadata, text, timestamp


def customer_row(customer: StripeObject, *, deleted: bool = False) -> CustomerRow | None:
    """The row of a Customer; None for an object without details (`{id, deleted: true}`)."""
    customer_id = id_of(customer)
    if customer_id is None or "created" not in customer:
        return None
    return CustomerRow(
        customer_id=customer_id,
        email=text(customer.get("email")),
        name=text(customer.get("name")),
        phone=text(customer.get("phone")),
        deleted=deleted,
        metadata=metadata(customer.get("metadata")),
        created=timestamp(customer.get("created")),
    )


def customer_changed(event: Event) -> Changes:
    """customer.created, customer.updated."""
    if event.object.get("deleted") is True:
        return customer_deleted(event)
    if (customer_id := id_of(event.object)) is None:
        return NOTHING
    row = customer_row({"created": None, **event.object, "id": customer_id})
    return Changes(mirror=row)


def customer_deleted(event: Event) -> Changes:
    """The type of the event tells: its object is the full customer, without a `deleted` key
    (stripe-facts 23). Its details stay, its mappings go."""
    return Changes(
        mirror=customer_row(event.object, deleted=True), deleted_customer=id_of(event.object)
    )
