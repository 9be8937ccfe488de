"""What the buyer enters on the checkout page, and whether it is complete."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.objects.payment_method import NO_ADDRESS
from billhook_sandbox.store import Json

NOTHING: Mapping[str, str] = MappingProxyType({})


class Buyer(NamedTuple):
    email: str | None = None
    name: str | None = None
    country: str | None = "US"
    postal_code: str | None = None
    line1: str | None = None
    line2: str | None = None
    city: str | None = None
    state: str | None = None
    phone: str | None = None
    shipping: Json | None = None
    """`name` and `address`."""
    shipping_rate: str | None = None
    """None keeps the session's current one."""
    custom_fields: Mapping[str, str] = NOTHING
    terms_of_service: bool = False
    promotions: bool = False
    tax_id: Json | None = None
    """`type` and `value`."""
    business_name: str | None = None
    promotion_code: str | None = None
    """The code as the buyer types it."""
    quantities: Mapping[str, int] = MappingProxyType({})
    """By the id of the line item; only of those that change."""
    save_method: bool = False

    @property
    def address(self) -> Json:
        parts = {part: getattr(self, part) for part in NO_ADDRESS}
        return {**NO_ADDRESS, **parts}


def with_known_details(session: Json, buyer: Buyer) -> Buyer:
    """The buyer with the email and name that the session already has."""
    details = session["customer_details"] or {}
    email = session["customer_email"] or details.get("email") or buyer.email
    if not email:
        raise InvalidRequest("An email address is required.", param="email")
    return buyer._replace(email=email, name=buyer.name or details.get("name"))


def check_buyer(session: Json, buyer: Buyer) -> None:
    """Raises InvalidRequest, with the name of the field, if something required is missing."""
    if session["phone_number_collection"]["enabled"]:
        require(bool(buyer.phone), "phone", "Enter a phone number.")
    if session["billing_address_collection"] == "required":
        require_address(buyer.address, "billing")
    if session["shipping_address_collection"]:
        check_shipping(session, buyer.shipping)
    for field in session["custom_fields"]:
        check_custom_field(field, value_of(field, buyer))
    consent = session["consent_collection"] or {}
    if consent.get("terms_of_service") == "required":
        message = "Agree to the terms of service to continue."
        require(buyer.terms_of_service, "terms_of_service", message)
    tax_ids = session.get("tax_id_collection") or {}
    if tax_ids.get("enabled") and tax_ids["required"] == "if_supported":
        require(buyer.tax_id is not None, "tax_id", "Enter a tax ID.")


def require(is_given: bool, param: str, message: str) -> None:
    if not is_given:
        raise InvalidRequest(message, param=param)


def require_address(address: Json, prefix: str) -> None:
    for part in ("line1", "city", "country"):
        message = "Enter a complete address: street, city and country."
        require(bool(address.get(part)), f"{prefix}_{part}", message)


def check_shipping(session: Json, shipping: Json | None) -> None:
    message = "Enter the name of the recipient."
    require(bool(shipping and shipping.get("name")), "shipping_name", message)
    address = (shipping or {}).get("address") or {}
    require_address(address, "shipping")
    allowed = session["shipping_address_collection"]["allowed_countries"]
    message = "The merchant does not ship to this country."
    require(address["country"] in allowed, "shipping_country", message)


def value_of(field: Json, buyer: Buyer) -> str | None:
    """What the buyer entered, else the field's default value."""
    found = buyer.custom_fields.get(field["key"])
    return found or field[field["type"]]["default_value"]


def check_custom_field(field: Json, value: str | None) -> None:
    param, label = f"custom_fields[{field['key']}]", field["label"]["custom"]
    if not value:
        require(field["optional"], param, f"Fill in “{label}”.")
        return
    specifics = field[field["type"]]
    if field["type"] == "dropdown":
        values = [option["value"] for option in specifics["options"]]
        require(value in values, param, f"Select one of the options of “{label}”.")
        return
    if field["type"] == "numeric":
        require(re.fullmatch(r"\d+", value) is not None, param, f"“{label}” must be digits.")
    shortest, longest = specifics["minimum_length"] or 0, specifics["maximum_length"] or 255
    message = f"“{label}” must have between {shortest} and {longest} characters."
    require(shortest <= len(value) <= longest, param, message)


def filled_fields(session: Json, buyer: Buyer) -> list[Json]:
    """The custom fields with their values."""
    return [
        {**field, field["type"]: {**field[field["type"]], "value": value_of(field, buyer)}}
        for field in session["custom_fields"]
    ]


def consent_of(session: Json, buyer: Buyer) -> Json | None:
    wanted = session["consent_collection"]
    if wanted is None:
        return None
    promotions = None
    if wanted["promotions"] == "auto":
        promotions = "opt_in" if buyer.promotions else "opt_out"
    accepted = "accepted" if buyer.terms_of_service else None
    required = wanted["terms_of_service"] == "required"
    return {"promotions": promotions, "terms_of_service": accepted if required else None}
