"""Usage on invoices: metered items are billed in arrears, and billing credits pay for them."""

from billhook_sandbox.event_log import change
from billhook_sandbox.objects import credit_grant
from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.objects.invoice import lines_of, with_lines
from billhook_sandbox.objects.meter import KIND, usage
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.store import DataSet, Json


def usage_between(data: DataSet, price: Json, customer: str, start: int, end: int) -> int:
    """The billed usage of a metered price; negative usage counts as none."""
    meter = data.get(KIND, price["recurring"]["meter"])
    return max(0, usage(data, meter, customer, start, end) or 0) if meter else 0


def with_late_usage(data: DataSet, draft: Json) -> Json:
    """The draft of a renewal with the usage that was reported while it was a draft."""
    if draft["billing_reason"] != "subscription_cycle":
        return draft
    lines = [with_current_usage(data, draft, line) for line in lines_of(data, draft["id"])]
    if lines == lines_of(data, draft["id"]):
        return draft
    return change(data, draft, "invoice.updated", **with_lines(data, draft["id"], lines))


def with_current_usage(data: DataSet, draft: Json, line: Json) -> Json:
    price_id = ((line["pricing"] or {}).get("price_details") or {}).get("price")
    price = data.get("price", price_id)
    if (
        price is None
        or not is_metered(price)
        or line["parent"]["subscription_item_details"] is None
        or line["description"].startswith("Trial period")
    ):
        return line
    period = line["period"]
    units = usage_between(data, price, draft["customer"], period["start"], period["end"])
    if units == line["quantity"]:
        return line
    amount = amount_for(data, price, units)
    _, _, name = line["description"].partition(" × ")
    return {
        **line,
        "amount": amount,
        "description": f"{units} × {name}",
        "quantity": units,
        "quantity_decimal": str(units),
        "subtotal": amount,
    }


def with_credits(data: DataSet, draft: Json) -> Json:
    """The draft after billing credits were applied to its metered lines. They reduce the total, not
    the subtotal."""
    lines, applied = [], []
    for line in lines_of(data, draft["id"]):
        used = apply_to_line(data, draft, line)
        applied += used
        lines.append({**line, "pretax_credit_amounts": used} if used else line)
    if not applied:
        return draft
    total = draft["total"] - sum(each["amount"] for each in applied)
    values = with_lines(data, draft["id"], lines) | {
        "amount_due": max(0, total),
        "amount_remaining": max(0, total),
        "total": total,
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": applied,
    }
    return data.put({**draft, **values})


def apply_to_line(data: DataSet, invoice: Json, line: Json) -> list[Json]:
    price_id = ((line["pricing"] or {}).get("price_details") or {}).get("price")
    price, rest = data.get("price", price_id), line["amount"]
    if price is None or rest <= 0 or not is_metered(price):
        return []
    applied = []
    for grant in credit_grant.usable_grants(data, invoice["customer"], invoice["currency"]):
        if rest and credit_grant.applies_to(grant, price):
            amount = min(rest, credit_grant.left(data, grant))
            transaction = credit_grant.put_transaction(
                data,
                grant,
                "debit",
                amount,
                "credits_applied",
                invoice=invoice["id"],
                invoice_line_item=line["id"],
            )
            applied.append(
                {
                    "amount": amount,
                    "credit_balance_transaction": transaction["id"],
                    "type": "credit_balance_transaction",
                }
            )
            rest -= amount
    return applied


def reinstate_credits(data: DataSet, invoice: Json) -> None:
    """The credits of a voided invoice can be used again."""
    for applied in invoice["total_pretax_credit_amounts"]:
        transaction = data.need(credit_grant.TRANSACTIONS, applied["credit_balance_transaction"])
        grant = data.need(credit_grant.KIND, transaction["credit_grant"])
        credit_grant.put_transaction(
            data,
            grant,
            "credit",
            applied["amount"],
            "credits_application_invoice_voided",
            **transaction["debit"]["credits_applied"],
        )
