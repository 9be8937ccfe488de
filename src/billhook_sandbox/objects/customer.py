"""Customers."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json


def make_customer(data: DataSet, given: Json) -> Json:
    customer = data.put(
        {
            "id": data.ids.new("customer"),
            "object": "customer",
            "address": full_address(given.get("address")),
            "balance": 0,
            "created": data.clock.now(),
            "currency": None,
            "customer_account": None,
            "default_source": None,
            "delinquent": False,
            "description": given.get("description"),
            "discount": None,
            "email": given.get("email"),
            "invoice_prefix": data.ids.random(8).upper(),
            "invoice_settings": invoice_settings(given.get("invoice_settings", {})),
            "livemode": data.livemode,
            "metadata": merge_metadata({}, given.get("metadata")),
            "name": given.get("name"),
            "next_invoice_sequence": 1,
            "phone": given.get("phone"),
            "preferred_locales": given.get("preferred_locales", []),
            "shipping": full_shipping(given.get("shipping")),
            "tax_exempt": given.get("tax_exempt", "none"),
            "test_clock": data.test_clock,
        }
    )
    emit(data, "customer.created", customer)
    return customer


def invoice_settings(given: Json) -> Json:
    return {
        "custom_fields": None,
        "default_payment_method": given.get("default_payment_method"),
        "footer": given.get("footer"),
        "rendering_options": None,
    }


def full_address(given: Json | None) -> Json | None:
    parts = ("city", "country", "line1", "line2", "postal_code", "state")
    return None if given is None else {part: given.get(part) for part in parts}


def full_shipping(given: Json | None) -> Json | None:
    if given is None:
        return None
    address = full_address(given["address"])
    return {"address": address, "name": given["name"], "phone": given.get("phone")}
