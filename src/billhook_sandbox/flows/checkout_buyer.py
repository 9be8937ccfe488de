"""What the buyer enters on the checkout page, and whether it is complete."""

import re
from collections.abc import Iterator, Mapping
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
    """Raises the first of the problems."""
    for problem in problems_of(session, buyer):
        raise problem


def problems_of(session: Json, buyer: Buyer) -> Iterator[InvalidRequest]:
    """What is missing or invalid; each error has the name of its field."""
    if session["phone_number_collection"]["enabled"] and not buyer.phone:
        yield InvalidRequest("Enter a phone number.", param="phone")
    if session["shipping_address_collection"]:
        allowed = session["shipping_address_collection"]["allowed_countries"]
        yield from shipping_problems(allowed, buyer.shipping or {})
    if session["billing_address_collection"] == "required":
        yield from address_problems(buyer.address, "billing")
    for field in session["custom_fields"]:
        if problem := custom_field_problem(field, value_of(field, buyer)):
            yield InvalidRequest(problem, param=f"custom_fields[{field['key']}]")
    tax_ids = session.get("tax_id_collection") or {}
    if tax_ids.get("enabled") and tax_ids["required"] == "if_supported" and not buyer.tax_id:
        yield InvalidRequest("Enter a tax ID.", param="tax_id")
    consent = session["consent_collection"] or {}
    if consent.get("terms_of_service") == "required" and not buyer.terms_of_service:
        message = "Agree to the terms of service to continue."
        yield InvalidRequest(message, param="terms_of_service")


def address_problems(address: Json, prefix: str) -> Iterator[InvalidRequest]:
    names = {"line1": "a street address", "city": "a city", "country": "a country"}
    for part, name in names.items():
        if not address.get(part):
            yield InvalidRequest(f"Enter {name}.", param=f"{prefix}_{part}")


def shipping_problems(allowed: list[str], shipping: Json) -> Iterator[InvalidRequest]:
    if not shipping.get("name"):
        yield InvalidRequest("Enter the name of the recipient.", param="shipping_name")
    address = shipping.get("address") or {}
    yield from address_problems(address, "shipping")
    if address.get("country") and address["country"] not in allowed:
        message = "The merchant does not ship to this country."
        yield InvalidRequest(message, param="shipping_country")


def value_of(field: Json, buyer: Buyer) -> str | None:
    """What the buyer entered, else the field's default value."""
    found = buyer.custom_fields.get(field["key"])
    return found or field[field["type"]]["default_value"]


def custom_field_problem(field: Json, value: str | None) -> str | None:
    label = field["label"]["custom"]
    if not value:
        return None if field["optional"] else f"Fill in “{label}”."
    specifics = field[field["type"]]
    if field["type"] == "dropdown":
        is_offered = value in [option["value"] for option in specifics["options"]]
        return None if is_offered else f"Select one of the options of “{label}”."
    if field["type"] == "numeric" and not re.fullmatch(r"\d+", value):
        return f"“{label}” must be digits."
    shortest, longest = specifics["minimum_length"] or 0, specifics["maximum_length"] or 255
    if not shortest <= len(value) <= longest:
        return f"“{label}” must have between {shortest} and {longest} characters."
    return None


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
