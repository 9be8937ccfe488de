"""The totals of an invoice: its lines, discounts, taxes and shipping."""

from billhook_sandbox.objects.discount import discount_amounts
from billhook_sandbox.objects.taxes import (
    Tax,
    TaxLocation,
    automatic_tax,
    invoice_tax,
    location_of,
    sum_of_taxes,
    tax_on,
)
from billhook_sandbox.pagination import list_object
from billhook_sandbox.store import DataSet, Json


def with_lines(data: DataSet, draft: Json, lines: list[Json]) -> Json:
    """Stores the lines; returns the changed fields of the draft. A negative total is credited to
    the customer."""
    location = tax_location(data, draft)
    lines, taxes = calculated(data, draft, lines, location)
    data.put({"id": draft["id"], "object": "_invoice_lines", "lines": lines})
    subtotal = sum(line["amount"] for line in lines)
    off = [each for line in lines for each in line["discount_amounts"]]
    shipping = draft["shipping_cost"] or {"amount_tax": 0, "amount_total": 0, "amount_subtotal": 0}
    credits = [each for line in lines for each in line["pretax_credit_amounts"]]
    added = sum(tax.added for tax in taxes)
    included = sum(tax.amount for tax in taxes) - added
    reduced = subtotal - sum(each["amount"] for each in off + credits)
    total = reduced + added + shipping["amount_total"]
    all_taxes = [each for line in lines for each in line["taxes"]]
    all_taxes += shipping_taxes(draft["shipping_cost"])
    return {
        **totals(draft["id"], lines, total),
        "amount_shipping": shipping["amount_subtotal"],
        "automatic_tax": tax_setting(draft["automatic_tax"]["enabled"], location),
        "subtotal": subtotal,
        "subtotal_excluding_tax": subtotal - included,
        "total_discount_amounts": sum_of_discounts(off),
        "total_excluding_tax": total - added - included - shipping["amount_tax"],
        "total_pretax_credit_amounts": credits,
        "total_taxes": sum_of_taxes(all_taxes),
    }


def shipping_taxes(cost: Json | None) -> list[Json]:
    """The taxes on shipping, in the shape of the invoice's own."""
    taxes = (cost or {}).get("taxes", [])
    return [
        invoice_tax(
            Tax(tax["amount"], tax["rate"], tax["taxability_reason"], tax["taxable_amount"])
        )
        for tax in taxes
    ]


def totals(invoice: str, lines: list[Json], total: int) -> Json:
    return {
        "amount_due": max(0, total),
        "amount_remaining": max(0, total),
        "lines": line_list(invoice, lines),
        "total": total,
    }


def tax_location(data: DataSet, draft: Json) -> TaxLocation | None:
    if not draft["automatic_tax"]["enabled"]:
        return None
    return location_of(data.get("customer", draft["customer"]))


def tax_setting(enabled: bool, location: TaxLocation | None) -> Json:
    status = "complete" if location else "requires_location_inputs"
    return {"disabled_reason": None, **automatic_tax(enabled, status)}


def calculated(
    data: DataSet, draft: Json, lines: list[Json], location: TaxLocation | None
) -> tuple[list[Json], list[Tax]]:
    """The lines with their discounts and taxes."""
    discounts = [data.need("discount", each) for each in draft["discounts"]]
    amounts = [line["amount"] if line["discountable"] else 0 for line in lines]
    found, taxes = [], []
    for line, taken in zip(lines, discount_amounts(data, discounts, amounts), strict=True):
        credits = sum(each["amount"] for each in line["pretax_credit_amounts"])
        left = line["amount"] - sum(part for _, part in taken) - credits
        tax = tax_on(data, left, behavior_of(data, line), line["currency"], location)
        taxes += [tax] if tax else []
        found.append(
            {
                **line,
                "discount_amounts": [{"amount": n, "discount": each["id"]} for each, n in taken],
                "taxes": [invoice_tax(tax)] if tax else [],
            }
        )
    return found, taxes


def behavior_of(data: DataSet, line: Json) -> str | None:
    details = (line["pricing"] or {}).get("price_details") or {}
    price = data.get("price", details.get("price"))
    return price["tax_behavior"] if price else None


def sum_of_discounts(amounts: list[Json]) -> list[Json]:
    sums: dict[str, int] = {}
    for each in amounts:
        sums[each["discount"]] = sums.get(each["discount"], 0) + each["amount"]
    return [{"amount": amount, "discount": discount} for discount, amount in sums.items()]


def lines_of(data: DataSet, invoice: str) -> list[Json]:
    lines: list[Json] = data.need("_invoice_lines", invoice)["lines"]
    return lines


def line_list(invoice: str, lines: list[Json]) -> Json:
    """The embedded list has the first ten lines."""
    embedded = list_object(lines[:10], f"/v1/invoices/{invoice}/lines", len(lines) > 10)
    return {**embedded, "total_count": len(lines)}
