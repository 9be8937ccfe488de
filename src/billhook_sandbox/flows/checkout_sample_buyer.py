"""A buyer who fills in everything that a Checkout Session asks for, for tests and controls."""

from typing import Any

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.checkout_buyer import Buyer
from billhook_sandbox.store import DataSet, Json

ADDRESS = {"city": "Springfield", "line1": "1 Main Street", "postal_code": "12345"}
TEXTS = {"numeric": "1", "text": "x"}
GIVEN = (
    "business_name",
    "country",
    "phone",
    "postal_code",
    "promotion_code",
    "promotions",
    "shipping",
    "shipping_rate",
    "tax_id",
    "terms_of_service",
)
"""What can be given instead of the sample, beside email, name, address, custom fields and
quantities. Null leaves it out."""


def sample_buyer(data: DataSet, session: Json, given: Json) -> Buyer:
    """`given` replaces the sample's details by name. Raises InvalidRequest for an unknown one."""
    address = {**ADDRESS, "country": given.get("country", "US"), **given.get("address", {})}
    sample: dict[str, Any] = {
        **address,
        "email": given.get("email", "buyer@example.com"),
        "name": given.get("name", "Sandbox Buyer"),
        "phone": "+15555550100" if session["phone_number_collection"]["enabled"] else None,
        "shipping": sample_shipping(session, given.get("name", "Sandbox Buyer")),
        "terms_of_service": True,
        "tax_id": sample_tax_id(session),
    }
    sample |= {name: given[name] for name in GIVEN if name in given}
    sample["shipping_rate"] = rate_by_name(data, session, sample.get("shipping_rate"))
    fields = {field["key"]: sample_value(field) for field in session["custom_fields"]}
    sample["custom_fields"] = {**fields, **given.get("custom_fields", {})}
    sample["quantities"] = quantities(data, session, given.get("quantities", {}))
    sample["save_method"] = bool(given.get("save_payment_method"))
    return Buyer(**sample)


def sample_shipping(session: Json, name: str) -> Json | None:
    if session["shipping_address_collection"] is None:
        return None
    country = session["shipping_address_collection"]["allowed_countries"][0]
    return {"address": {**ADDRESS, "country": country}, "name": name}


def sample_tax_id(session: Json) -> Json | None:
    tax_ids = session.get("tax_id_collection") or {}
    if tax_ids.get("enabled") and tax_ids["required"] == "if_supported":
        return {"type": "us_ein", "value": "12-3456789"}
    return None


def sample_value(field: Json) -> str:
    specifics = field[field["type"]]
    if specifics["default_value"] or field["optional"]:
        return str(specifics["default_value"] or "")
    if field["type"] == "dropdown":
        return str(specifics["options"][0]["value"])
    return TEXTS[field["type"]] * (specifics["minimum_length"] or 1)


def rate_by_name(data: DataSet, session: Json, wanted: str | None) -> str | None:
    """The shipping rate's id: `wanted` is an id or a display name."""
    for option in session["shipping_options"]:
        rate = data.need("shipping_rate", option["shipping_rate"])
        if wanted in (rate["id"], rate["display_name"]):
            return str(rate["id"])
    return wanted


def quantities(data: DataSet, session: Json, given: dict[str, Any]) -> dict[str, int]:
    """By line item: the keys of `given` are ids of line items or prices."""
    items = data.need("_checkout", session["id"])["line_items"]
    ids = {item["price"]["id"]: item["id"] for item in items}
    found = {ids.get(key, key): value for key, value in given.items()}
    if not all(isinstance(value, int) and value >= 0 for value in found.values()):
        raise InvalidRequest("Quantities must be whole numbers, zero or more.", param="quantities")
    return found
