"""Products and prices."""

from __future__ import annotations

from billhook.kinds import kind
from billhook.kinds.kind import Kind
from billhook.kinds.reading import StripeObject, hash_of, small_integer, text

# Without `active`, Stripe lists only active prices (stripe-facts 24).
_ACTIVE_AND_INACTIVE = ({"active": True}, {"active": False})

PRODUCT = Kind(
    name="product",
    table="stripe_products",
    key="product_id",
    columns=(
        kind.required("name"),
        kind.text("description"),
        kind.flag("active"),
        kind.reference("default_price_id", "default_price"),
        kind.metadata(),
    ),
    path="/v1/products",
    variants=_ACTIVE_AND_INACTIVE,
    changed_by=("product.created", "product.updated"),
    deleted_by=("product.deleted",),
)


def _decimal(price: StripeObject) -> str | None:
    """A string on the wire (stripe-facts 28)."""
    decimal = price.get("unit_amount_decimal")
    return None if decimal is None else str(decimal)


def _interval(price: StripeObject) -> str | None:
    return text(hash_of(price.get("recurring")).get("interval"))


def _interval_count(price: StripeObject) -> int | None:
    return small_integer(hash_of(price.get("recurring")).get("interval_count"))


PRICE = Kind(
    name="price",
    table="stripe_prices",
    key="price_id",
    columns=(
        kind.reference("product_id", "product"),
        kind.flag("active"),
        kind.required("currency"),
        kind.amount("unit_amount"),
        kind.computed("unit_amount_decimal", "text", _decimal),
        kind.required("type"),
        kind.text("lookup_key"),
        kind.text("billing_scheme"),
        kind.text("tax_behavior"),
        kind.computed("recurring_interval", "text", _interval),
        kind.computed("recurring_interval_count", "integer", _interval_count),
        kind.metadata(),
    ),
    path="/v1/prices",
    variants=_ACTIVE_AND_INACTIVE,
    changed_by=("price.created", "price.updated"),
    deleted_by=("price.deleted",),
)
