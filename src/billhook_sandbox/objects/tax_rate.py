"""Tax rates: a simple table by country, from which automatic taxes are calculated."""

from typing import NamedTuple

from billhook_sandbox.store import DataSet, Json


class Rate(NamedTuple):
    percentage: float
    tax_type: str = "vat"


RATES: dict[str, Rate] = {
    "AT": Rate(20), "AU": Rate(10, "gst"), "BE": Rate(21), "CA": Rate(5, "gst"), "CH": Rate(8.1),
    "DE": Rate(19), "DK": Rate(25), "ES": Rate(21), "FI": Rate(25.5), "FR": Rate(20),
    "GB": Rate(20), "IE": Rate(23), "IN": Rate(18, "gst"), "IT": Rate(22), "JP": Rate(10, "jct"),
    "MX": Rate(16), "NL": Rate(21), "NO": Rate(25), "NZ": Rate(15, "gst"), "PL": Rate(23),
    "PT": Rate(23), "SE": Rate(25), "SG": Rate(9, "gst"), "US": Rate(8, "sales_tax"),
}  # fmt: skip
"""The standard rate of each country. Other countries are not taxed. The United States have one rate
here, because the sandbox knows no states or counties."""

NAMES = {"gst": "GST", "jct": "Consumption tax", "sales_tax": "Sales tax", "vat": "VAT"}


def tax_rate_for(data: DataSet, country: str, inclusive: bool) -> Json | None:
    """The stored tax rate of the country, created on first use; None if it is not taxed there."""
    rate = RATES.get(country)
    if rate is None:
        return None
    for found in data.all("tax_rate").where("country", country):
        if found["inclusive"] == inclusive:
            return found
    return data.put(
        {
            "id": data.ids.new("tax_rate"),
            "object": "tax_rate",
            "active": False,  # As at Stripe: automatic rates cannot be used for manual taxes.
            "country": country,
            "created": data.clock.now(),
            "description": None,
            "display_name": NAMES[rate.tax_type],
            "effective_percentage": rate.percentage,
            "flat_amount": None,
            "inclusive": inclusive,
            "jurisdiction": country,
            "jurisdiction_level": "country",
            "livemode": data.livemode,
            "metadata": {},
            "percentage": rate.percentage,
            "rate_type": "percentage",
            "state": None,
            "tax_type": rate.tax_type,
        }
    )
