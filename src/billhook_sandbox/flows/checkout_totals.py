"""What a Checkout Session costs: items, discounts, shipping and taxes.

The session's internal record has what the totals depend on, because the buyer may change it on the
page: quantities, a promotion code, the shipping rate and the address.
"""

from typing import NamedTuple

from billhook_sandbox.objects.discount import discount_amounts
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.objects.taxes import (
    Tax,
    TaxLocation,
    automatic_tax,
    checkout_tax,
    sum_of_taxes,
    tax_on,
)
from billhook_sandbox.store import DataSet, Json


class Cart(NamedTuple):
    """What the totals depend on."""

    items: list[Json]
    discounts: list[Json]
    shipping_rate: Json | None
    taxed: bool
    location: TaxLocation | None
    trial: bool
    """Recurring prices are free at first."""


class Totals(NamedTuple):
    items: list[Json]
    item_details: dict[str, Json]
    """By item: its `discounts` and `taxes`, which are left out unless expanded."""
    session: Json
    """The fields of the session."""
    shipping_taxes: list[Json]
    breakdown: Json
    """`total_details.breakdown`, which is left out unless expanded."""


def cart_of(data: DataSet, record: Json) -> Cart:
    """The cart of a session, from its internal record."""
    location = record["location"]
    return Cart(
        record["line_items"],
        record["discounts"],
        data.get("shipping_rate", record["shipping_rate"]),
        record["taxed"],
        TaxLocation(*location) if location else None,
        record["trial"],
    )


def calculate(data: DataSet, cart: Cart) -> Totals:
    """Stores nothing but new tax rates."""
    subtotals = [subtotal_of(data, item, cart.trial) for item in cart.items]
    taken = discount_amounts(data, cart.discounts, subtotals)
    items, details, taxes = [], {}, []
    for item, subtotal, parts in zip(cart.items, subtotals, taken, strict=True):
        off = sum(part for _, part in parts)
        tax = tax_of(data, cart, subtotal - off, item["price"]["tax_behavior"])
        taxes += [tax] if tax else []
        found = {
            "amount_discount": off,
            "amount_subtotal": subtotal,
            "amount_tax": tax.amount if tax else 0,
            "amount_total": subtotal - off + (tax.added if tax else 0),
        }
        items.append({**item, **found})
        details[item["id"]] = {
            "discounts": [{"amount": part, "discount": each} for each, part in parts],
            "taxes": [checkout_tax(tax)] if tax else [],
        }
    shipping, shipping_tax = shipping_cost(data, cart)
    taxes += [shipping_tax] if shipping_tax else []
    discounts = [each for found in details.values() for each in found["discounts"]]
    breakdown = {
        "discounts": sum_of_discounts(discounts),
        "taxes": sum_of_taxes([checkout_tax(tax) for tax in taxes]),
    }
    fields = session_fields(cart, items, shipping, taxes)
    shipping_taxes = [checkout_tax(shipping_tax)] if shipping_tax else []
    return Totals(items, details, fields, shipping_taxes, breakdown)


def subtotal_of(data: DataSet, item: Json, trial: bool) -> int:
    if trial and item["price"]["recurring"]:
        return 0
    quantity = item["quantity"]
    return 0 if quantity is None else amount_for(data, item["price"], quantity)


def tax_of(data: DataSet, cart: Cart, amount: int, behavior: str | None) -> Tax | None:
    if not cart.taxed:
        return None
    return tax_on(data, amount, behavior, currency_of(cart), cart.location)


def currency_of(cart: Cart) -> str:
    return str(cart.items[0]["currency"])


def shipping_cost(data: DataSet, cart: Cart) -> tuple[Json | None, Tax | None]:
    rate = cart.shipping_rate
    if rate is None:
        return None, None
    amount = rate["fixed_amount"]["amount"]
    tax = tax_of(data, cart, amount, rate["tax_behavior"])
    cost = {
        "amount_subtotal": amount,
        "amount_tax": tax.amount if tax else 0,
        "amount_total": amount + (tax.added if tax else 0),
        "shipping_rate": rate["id"],
    }
    return cost, tax


def session_fields(cart: Cart, items: list[Json], shipping: Json | None, taxes: list[Tax]) -> Json:
    def total(field: str) -> int:
        return sum(int(item[field]) for item in items)

    status = "complete" if cart.location else "requires_location_inputs"
    return {
        "amount_subtotal": total("amount_subtotal"),
        "amount_total": total("amount_total") + (shipping["amount_total"] if shipping else 0),
        "automatic_tax": automatic_tax(cart.taxed, status),
        "shipping_cost": shipping,
        "total_details": {
            "amount_discount": total("amount_discount"),
            "amount_shipping": shipping["amount_subtotal"] if shipping else 0,
            "amount_tax": sum(tax.amount for tax in taxes),
        },
    }


def sum_of_discounts(parts: list[Json]) -> list[Json]:
    sums: dict[str, Json] = {}
    for part in parts:
        key = part["discount"]["id"]
        before = sums.get(key, {"amount": 0})
        sums[key] = {**part, "amount": before["amount"] + part["amount"]}
    return list(sums.values())


def save_totals(data: DataSet, session: Json, record: Json) -> Json:
    """Stores the record and its totals; returns the session with them."""
    found = calculate(data, cart_of(data, record))
    for item_id, details in found.item_details.items():
        data.put({"id": item_id, "object": "_item_details", **details})
    data.put(
        {
            **record,
            "breakdown": found.breakdown,
            "line_items": found.items,
            "shipping_taxes": found.shipping_taxes,
        }
    )
    return data.put({**session, **found.session})
