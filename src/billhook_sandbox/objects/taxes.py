"""Automatic taxes on an amount, for Checkout Sessions and invoices."""

from decimal import ROUND_HALF_UP, Decimal
from typing import NamedTuple

from billhook_sandbox.objects.tax_rate import tax_rate_for
from billhook_sandbox.store import DataSet, Json

EXCLUSIVE_CURRENCIES = ("cad", "usd")
"""In these, a price that says nothing excludes taxes, as with Stripe's default settings."""


class TaxLocation(NamedTuple):
    """Where the buyer is, and whether they pay taxes (the customer's `tax_exempt`)."""

    country: str
    exempt: str = "none"


class Tax(NamedTuple):
    amount: int
    rate: Json
    reason: str
    taxable_amount: int

    @property
    def inclusive(self) -> bool:
        return bool(self.rate["inclusive"])

    @property
    def added(self) -> int:
        """What the tax adds to the price: nothing if the price includes it."""
        return 0 if self.inclusive else self.amount


def location_of(customer: Json | None) -> TaxLocation | None:
    """Stripe uses the shipping address, else the billing address."""
    if customer is None:
        return None
    shipping = (customer["shipping"] or {}).get("address") or {}
    country = shipping.get("country") or (customer["address"] or {}).get("country")
    return TaxLocation(country, customer["tax_exempt"] or "none") if country else None


def is_inclusive(behavior: str | None, currency: str) -> bool:
    if behavior in ("exclusive", "inclusive"):
        return behavior == "inclusive"
    return currency not in EXCLUSIVE_CURRENCIES


def tax_on(
    data: DataSet, amount: int, behavior: str | None, currency: str, location: TaxLocation | None
) -> Tax | None:
    """The tax on an amount in minor units; None if the location is unknown or not taxed."""
    if location is None:
        return None
    rate = tax_rate_for(data, location.country, is_inclusive(behavior, currency))
    if rate is None:
        return None
    if location.exempt != "none":
        reason = "reverse_charge" if location.exempt == "reverse" else "customer_exempt"
        return Tax(0, rate, reason, 0)
    share = Decimal(str(rate["percentage"])) / 100
    exact = amount * share / (1 + share) if rate["inclusive"] else amount * share
    tax = int(exact.quantize(Decimal(1), ROUND_HALF_UP))
    return Tax(tax, rate, "standard_rated", amount - tax if rate["inclusive"] else amount)


def checkout_tax(tax: Tax) -> Json:
    """A tax as Checkout Sessions and their items show it."""
    return {
        "amount": tax.amount,
        "rate": tax.rate,
        "taxability_reason": tax.reason,
        "taxable_amount": tax.taxable_amount,
    }


def invoice_tax(tax: Tax) -> Json:
    """A tax as invoices and their lines show it."""
    return {
        "amount": tax.amount,
        "tax_behavior": "inclusive" if tax.inclusive else "exclusive",
        "tax_rate_details": {"tax_rate": tax.rate["id"]},
        "taxability_reason": tax.reason,
        "taxable_amount": tax.taxable_amount,
        "type": "tax_rate_details",
    }


def sum_of_taxes(taxes: list[Json]) -> list[Json]:
    """One entry for each tax rate; `taxes` in either of the two shapes."""
    sums: dict[str, Json] = {}
    for tax in taxes:
        details = tax.get("rate") or tax["tax_rate_details"]
        key = f"{details.get('id') or details['tax_rate']} {tax['taxability_reason']}"
        before = sums.get(key)
        sums[key] = tax if before is None else add(before, tax)
    return list(sums.values())


def add(one: Json, other: Json) -> Json:
    return {**one, **{key: one[key] + other[key] for key in ("amount", "taxable_amount")}}


def automatic_tax(enabled: bool, status: str | None = None) -> Json:
    """The setting of sessions and invoices."""
    return {
        "enabled": enabled,
        "liability": {"type": "self"} if enabled else None,
        "provider": "stripe" if enabled else None,
        "status": status if enabled else None,
    }
