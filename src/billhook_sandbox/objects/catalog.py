"""Products and prices."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import emit
from billhook_sandbox.objects.pricing import amount_for, put_tiers
from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json


def make_product(data: DataSet, given: Json) -> Json:
    now = data.clock.now()
    product = data.put(
        {
            "id": given.get("id") or data.ids.new("product"),
            "object": "product",
            "active": given.get("active", True),
            "created": now,
            "default_price": None,
            "description": given.get("description"),
            "images": given.get("images", []),
            "livemode": data.livemode,
            "marketing_features": [],
            "metadata": merge_metadata({}, given.get("metadata")),
            "name": given["name"],
            "package_dimensions": None,
            "shippable": given.get("shippable"),
            "statement_descriptor": given.get("statement_descriptor"),
            "tax_code": given.get("tax_code"),
            "tax_details": None,
            "type": given.get("type", "service"),
            "unit_label": given.get("unit_label"),
            "updated": now,
            "url": given.get("url"),
        }
    )
    emit(data, "product.created", product)
    return product


def make_price(data: DataSet, given: Json) -> Json:
    recurring, scheme = given.get("recurring"), given.get("billing_scheme", "per_unit")
    amount, decimal_amount = amounts(given) if scheme == "per_unit" else (None, None)
    price = data.put(
        {
            "id": data.ids.new("price"),
            "object": "price",
            "active": given.get("active", True),
            "billing_scheme": scheme,
            "created": data.clock.now(),
            "currency": given["currency"],
            "custom_unit_amount": None,
            "livemode": data.livemode,
            "lookup_key": given.get("lookup_key"),
            "metadata": merge_metadata({}, given.get("metadata")),
            "nickname": given.get("nickname"),
            "product": given["product"],
            "recurring": None if recurring is None else recurring_details(recurring),
            "tax_behavior": given.get("tax_behavior", "unspecified"),
            "tiers_mode": given.get("tiers_mode"),
            "transform_quantity": given.get("transform_quantity"),
            "type": "recurring" if recurring else "one_time",
            "unit_amount": amount,
            "unit_amount_decimal": decimal_amount,
        }
    )
    if "tiers" in given:
        put_tiers(data, price["id"], given["tiers"])
    emit(data, "price.created", price)
    return price


def amounts(given: Json) -> tuple[int | None, str]:
    """`unit_amount` and `unit_amount_decimal`; the former is null if the amount has a fraction."""
    decimal_amount = given.get("unit_amount_decimal")
    if decimal_amount is None:
        amount = given.get("unit_amount", 0)
        return amount, str(amount)
    return (int(decimal_amount) if "." not in decimal_amount else None), decimal_amount


def recurring_details(given: Json) -> Json:
    return {
        "interval": given["interval"],
        "interval_count": given.get("interval_count", 1),
        "meter": given.get("meter"),
        "trial_period_days": given.get("trial_period_days"),
        "usage_type": given.get("usage_type", "licensed"),
    }


def is_metered(price: Json) -> bool:
    return bool(price["recurring"]) and price["recurring"]["usage_type"] == "metered"


def quantity_of(given: Json, price: Json, param: str, default: int | None = None) -> int | None:
    """The requested quantity. Licensed prices require one; metered prices don't allow it."""
    if is_metered(price):
        if "quantity" in given:
            raise InvalidRequest(
                "Quantity should not be specified where usage_type is `metered`. Remove "
                f"`quantity` from `{param}`",
                param=param,
            )
        return None
    quantity: int | None = given.get("quantity", default)
    if quantity is None:
        raise InvalidRequest(
            f"Quantity is required. Add `quantity` to `{param}`",
            code="parameter_missing",
            param=f"{param}[quantity]",
        )
    return quantity


def billed_units(item: Json) -> int:
    """The units that an item is billed for in advance: usage is billed in arrears."""
    return item.get("quantity") or 0


def advance_amount(data: DataSet, item: Json) -> int:
    """What an item costs in advance, for a whole period."""
    return 0 if is_metered(item["price"]) else amount_for(data, item["price"], billed_units(item))


def legacy_plan(price: Json) -> Json:
    """The legacy plan object of a recurring price, part of subscription items (stripe-facts 25)."""
    recurring = price["recurring"]
    return {
        "id": price["id"],
        "object": "plan",
        "active": price["active"],
        "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"],
        "billing_scheme": price["billing_scheme"],
        "created": price["created"],
        "currency": price["currency"],
        "interval": recurring["interval"],
        "interval_count": recurring["interval_count"],
        "livemode": price["livemode"],
        "metadata": price["metadata"],
        "meter": recurring["meter"],
        "nickname": price["nickname"],
        "product": price["product"],
        "tiers_mode": price["tiers_mode"],
        "transform_usage": None,
        "trial_period_days": recurring["trial_period_days"],
        "usage_type": recurring["usage_type"],
    }
