"""Shipping rates: what a delivery costs, and how long it takes."""

from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json


def make_shipping_rate(data: DataSet, given: Json) -> Json:
    """Emits no event: Stripe has none for shipping rates."""
    return data.put(
        {
            "id": data.ids.new("shipping_rate"),
            "object": "shipping_rate",
            "active": True,
            "created": data.clock.now(),
            "delivery_estimate": estimate(given.get("delivery_estimate")),
            "display_name": given["display_name"],
            "fixed_amount": given["fixed_amount"],
            "livemode": data.livemode,
            "metadata": merge_metadata({}, given.get("metadata")),
            "tax_behavior": given.get("tax_behavior", "unspecified"),
            "tax_code": given.get("tax_code"),
            "type": "fixed_amount",
        }
    )


def estimate(given: Json | None) -> Json | None:
    return None if given is None else {"maximum": None, "minimum": None, **given}
