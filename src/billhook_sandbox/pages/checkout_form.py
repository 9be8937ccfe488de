"""Reads the form of the checkout page."""

import re
from collections.abc import Callable, Mapping
from functools import partial

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.checkout_buyer import Buyer, problems_of
from billhook_sandbox.objects.checkout_session import collects_method
from billhook_sandbox.objects.payment_method import make_card, make_sepa_debit
from billhook_sandbox.pages.forms import FormError, FormErrors, read_card
from billhook_sandbox.params import email
from billhook_sandbox.store import DataSet, Json

MakeMethod = Callable[[], Json]

COUNTRIES = {
    "AT": "Austria", "AU": "Australia", "BE": "Belgium", "BR": "Brazil", "CA": "Canada",
    "CH": "Switzerland", "DE": "Germany", "DK": "Denmark", "ES": "Spain", "FI": "Finland",
    "FR": "France", "GB": "United Kingdom", "IE": "Ireland", "IN": "India", "IT": "Italy",
    "JP": "Japan", "MX": "Mexico", "NL": "Netherlands", "NO": "Norway", "NZ": "New Zealand",
    "PL": "Poland", "PT": "Portugal", "SE": "Sweden", "SG": "Singapore", "US": "United States",
}  # fmt: skip
TAX_ID_TYPES = {
    "au_abn": "Australian ABN", "ca_bn": "Canadian BN", "ch_vat": "Swiss VAT", "eu_vat": "EU VAT",
    "gb_vat": "UK VAT", "in_gst": "Indian GST", "no_vat": "Norwegian VAT", "us_ein": "US EIN",
}  # fmt: skip
FIELD_IDS = {
    "email": "email",
    "phone": "phoneNumber",
    "shipping_name": "shippingName",
    "shipping_country": "shippingCountry",
    "shipping_line1": "shippingAddressLine1",
    "shipping_city": "shippingLocality",
    "number": "cardNumber",
    "exp_month": "cardExpiry",
    "cvc": "cardCvc",
    "iban": "iban",
    "name": "billingName",
    "billing_line1": "billingAddressLine1",
    "billing_city": "billingLocality",
    "billing_country": "billingCountry",
    "business_name": "businessName",
    "tax_id": "taxId",
    "promotion_code": "promotionCode",
    "terms_of_service": "termsOfServiceConsentCheckbox",
}
"""The id of the field for the parameter that an error names, in the order of the page."""


def field_of(error: InvalidRequest) -> str:
    param = error.param or ""
    if found := re.fullmatch(r"custom_fields\[(\w+)\]", param):
        return f"custom-{found[1]}"
    return FIELD_IDS.get(param, param)


def in_page_order(errors: Mapping[str, str]) -> dict[str, str]:
    """Fields that few sessions have, such as custom fields, come last."""
    order = list(FIELD_IDS.values())
    position = {field: order.index(field) if field in order else len(order) for field in errors}
    return {field: errors[field] for field in sorted(errors, key=position.__getitem__)}


def read_order(
    data: DataSet, session: Json, filled: dict[str, str]
) -> tuple[Buyer, MakeMethod | None]:
    """The buyer, and a function that creates the payment method. Raises all errors together."""
    problems, make_method = FormErrors(), None
    address = (session["customer_details"] or {}).get("email") or filled.get("email", "")
    try:
        email(address, "email")
    except InvalidRequest:
        problems.require(False, "email", "Enter a valid email address.")
    is_known = filled.get("country", "US") in COUNTRIES
    problems.require(is_known, "billingCountry", "Select a country or region.")
    if collects_method(session):
        with problems.check():
            make_method = read_method(data, session, filled)
    with problems.check():
        buyer = read_choices(filled)._replace(email=address)
        for error in problems_of(session, buyer):
            problems.require(False, field_of(error), error.message)
    if problems.errors:
        raise FormError(in_page_order(problems.errors))
    return buyer, make_method


def read_choices(filled: dict[str, str]) -> Buyer:
    """Without the email: what can be changed before it is entered."""

    def value(name: str) -> str | None:
        return filled.get(name) or None

    tax_id = {"type": filled.get("tax_id_type", "eu_vat"), "value": filled.get("tax_id", "")}
    return Buyer(
        name=value("name"),
        country=filled.get("country", "US"),
        postal_code=value("postal_code"),
        line1=value("line1"),
        line2=value("line2"),
        city=value("city"),
        state=value("state"),
        phone=value("phone"),
        shipping=read_shipping(filled),
        shipping_rate=value("shipping_rate"),
        custom_fields={
            name.removeprefix("custom_"): entered
            for name, entered in filled.items()
            if name.startswith("custom_")
        },
        terms_of_service=filled.get("terms_of_service") == "on",
        promotions=filled.get("promotions") == "on",
        tax_id=tax_id if tax_id["value"] else None,
        business_name=value("business_name"),
        promotion_code=value("promotion_code"),
        quantities=read_quantities(filled),
        save_method=filled.get("save_method") == "on",
    )


def read_shipping(filled: dict[str, str]) -> Json | None:
    parts = ("city", "country", "line1", "line2", "postal_code", "state")
    address = {part: filled.get(f"shipping_{part}") or None for part in parts}
    name = filled.get("shipping_name")
    return {"address": address, "name": name} if name or any(address.values()) else None


def read_quantities(filled: dict[str, str]) -> dict[str, int]:
    entered = {name: value for name, value in filled.items() if name.startswith("quantity_")}
    problems = FormErrors()
    for name, value in entered.items():
        is_number = re.fullmatch(r"\d{1,6}", value) is not None
        problems.require(is_number, name, "Enter the quantity as a whole number.")
    problems.raise_any()
    return {name.removeprefix("quantity_"): int(value) for name, value in entered.items()}


def read_method(data: DataSet, session: Json, filled: dict[str, str]) -> MakeMethod:
    """A function that creates the payment method, or finds the saved one."""
    if saved := filled.get("saved"):
        for method in saved_methods(data, session):
            if method["id"] == saved:
                return lambda: method
        raise FormError({"method": "Select a payment method."})
    type_ = filled.get("method", "card")
    if type_ not in session["payment_method_types"]:
        raise FormError({"method": "Select a payment method."})
    if type_ == "sepa_debit":
        return partial(make_sepa_debit, data, read_iban(filled), None)
    card, expiry = read_card(filled)
    return partial(make_card, data, card, expiry, None)


def saved_methods(data: DataSet, session: Json) -> list[Json]:
    """The customer's cards that may be shown again."""
    options = session["saved_payment_method_options"]
    if options is None or session["customer"] is None:
        return []
    shown = options["allow_redisplay_filters"]
    found = data.all("payment_method").where("customer", session["customer"])
    return [each for each in found if each["allow_redisplay"] in shown and each["type"] == "card"]


def read_iban(filled: dict[str, str]) -> str:
    """The IBAN. The name is required too."""
    problems = FormErrors()
    iban = "".join(filled.get("iban", "").split()).upper()
    is_valid = re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", iban) is not None
    problems.require(is_valid, "iban", "Enter a valid IBAN.")
    message = "Enter the name of the account holder."
    problems.require(bool(filled.get("name")), "billingName", message)
    problems.raise_any()
    return iban
