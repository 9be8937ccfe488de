"""product.* and price.* → `payments.stripe_products`, `payments.stripe_prices`."""

from __future__ import annotations

from billhook.projections.changes import (
    NOTHING,
    Changes,
    DeletedCatalogRow,
    Event,
    PriceRow,
    ProductRow,
)
from billhook.projections.shapes import (
    StripeObject,
    hash_of,
    id_of,
    integer,
    metadata,
    required,
    small_integer,
    text,
)


def product_row(product: StripeObject) -> ProductRow:
    """The row of a Product."""
    return ProductRow(
        product_id=required(product, "id"),
        name=required(product, "name"),
        description=text(product.get("description")),
        active=product.get("active") is True,
        default_price_id=id_of(product.get("default_price")),
        metadata=metadata(product.get("metadata")),
    )


def price_row(price: StripeObject) -> PriceRow:
    """The row of a Price. `unit_amount_decimal` is a string on the wire (stripe-facts 28)."""
    recurring = hash_of(price.get("recurring"))
    decimal = price.get("unit_amount_decimal")
    return PriceRow(
        price_id=required(price, "id"),
        product_id=id_of(price.get("product")),
        active=price.get("active") is True,
        currency=required(price, "currency"),
        unit_amount=integer(price.get("unit_amount")),
        unit_amount_decimal=None if decimal is None else str(decimal),
        type=required(price, "type"),
        lookup_key=text(price.get("lookup_key")),
        billing_scheme=text(price.get("billing_scheme")),
        tax_behavior=text(price.get("tax_behavior")),
        recurring_interval=text(recurring.get("interval")),
        recurring_interval_count=small_integer(recurring.get("interval_count")),
        metadata=metadata(price.get("metadata")),
    )


def product_changed(event: Event) -> Changes:
    """product.created, product.updated."""
    return Changes(mirror=product_row(event.object))


def price_changed(event: Event) -> Changes:
    """price.created, price.updated."""
    return Changes(mirror=price_row(event.object))


def product_deleted(event: Event) -> Changes:
    """The row goes; a tombstone keeps late updates out."""
    product_id = id_of(event.object)
    if product_id is None:
        return NOTHING
    return Changes(deleted_catalog=DeletedCatalogRow(object_type="product", object_id=product_id))


def price_deleted(event: Event) -> Changes:
    """The row goes; a tombstone keeps late updates out."""
    price_id = id_of(event.object)
    if price_id is None:
        return NOTHING
    return Changes(deleted_catalog=DeletedCatalogRow(object_type="price", object_id=price_id))
