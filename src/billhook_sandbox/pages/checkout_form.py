"""Reads the form of the checkout page."""

import re

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.checkout_buyer import Buyer
from billhook_sandbox.objects.payment_method import make_card, make_sepa_debit
from billhook_sandbox.pages.forms import FormError, read_card
from billhook_sandbox.params import email
from billhook_sandbox.store import DataSet, Json

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
    "billing_city": "billingLocality",
    "billing_country": "billingCountry",
    "billing_line1": "billingAddressLine1",
    "business_name": "businessName",
    "email": "email",
    "phone": "phoneNumber",
    "promotion_code": "promotionCode",
    "shipping_city": "shippingLocality",
    "shipping_country": "shippingCountry",
    "shipping_line1": "shippingAddressLine1",
    "shipping_name": "shippingName",
    "tax_id": "taxId",
    "terms_of_service": "termsOfServiceConsentCheckbox",
}
"""The id of the field for the parameter that an error names."""


def field_of(error: InvalidRequest) -> str:
    param = error.param or ""
    if found := re.fullmatch(r"custom_fields\[(\w+)\]", param):
        return f"custom-{found[1]}"
    return FIELD_IDS.get(param, param)


def read_buyer(session: Json, filled: dict[str, str]) -> Buyer:
    """Everything but the email is checked later, against what the session asks for."""
    address = (session["customer_details"] or {}).get("email") or filled.get("email", "")
    try:
        email(address, "email")
    except InvalidRequest as error:
        raise FormError("email", "Enter a valid email address.") from error
    country = filled.get("country", "US")
    if country not in COUNTRIES:
        raise FormError("billingCountry", "Select a country or region.")
    return read_choices(filled)._replace(email=address)


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
    return {"address": address, "name": name} if name or address["line1"] else None


def read_quantities(filled: dict[str, str]) -> dict[str, int]:
    found = {}
    for name, entered in filled.items():
        if name.startswith("quantity_"):
            if not re.fullmatch(r"\d{1,6}", entered):
                raise FormError(name, "Enter the quantity as a whole number.")
            found[name.removeprefix("quantity_")] = int(entered)
    return found


def read_method(data: DataSet, session: Json, filled: dict[str, str]) -> Json:
    if saved := filled.get("saved"):
        for method in saved_methods(data, session):
            if method["id"] == saved:
                return method
        raise FormError("method", "Select a payment method.")
    type_ = filled.get("method", "card")
    if type_ not in session["payment_method_types"]:
        raise FormError("method", "Select a payment method.")
    if type_ == "sepa_debit":
        return read_debit(data, filled)
    card, expiry = read_card(filled)
    return make_card(data, card, expiry, None)


def saved_methods(data: DataSet, session: Json) -> list[Json]:
    """The customer's cards that may be shown again."""
    options = session["saved_payment_method_options"]
    if options is None or session["customer"] is None:
        return []
    shown = options["allow_redisplay_filters"]
    found = data.all("payment_method").where("customer", session["customer"])
    return [each for each in found if each["allow_redisplay"] in shown and each["type"] == "card"]


def read_debit(data: DataSet, filled: dict[str, str]) -> Json:
    iban = "".join(filled.get("iban", "").split()).upper()
    if not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]{11,30}", iban):
        raise FormError("iban", "Enter a valid IBAN.")
    if not filled.get("name"):
        raise FormError("billingName", "Enter the name of the account holder.")
    return make_sepa_debit(data, iban, None)
