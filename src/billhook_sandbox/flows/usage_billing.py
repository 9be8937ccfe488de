"""Usage on invoices: metered items are billed in arrears, and billing credits pay for them."""

from collections.abc import Collection

from billhook_sandbox.event_log import change
from billhook_sandbox.objects import credit_grant
from billhook_sandbox.objects.catalog import is_metered
from billhook_sandbox.objects.invoice_totals import lines_of, with_lines
from billhook_sandbox.objects.meter import EVENTS, KIND, usage
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.store import DataSet, Json

STARTS = "_usage_start"
ARREARS = "_billed_in_arrears"


def usage_between(
    data: DataSet, price: Json, item: str, customer: str, start: int, end: int
) -> int:
    """The billed usage of an item's metered price; negative usage counts as none."""
    meter = data.get(KIND, price["recurring"]["meter"])
    started = data.get(STARTS, item)
    after = started["after"] if started and started["at"] == start else 0
    return max(0, usage(data, meter, customer, start, end, after) or 0) if meter else 0


def start_usage(data: DataSet, item: Json) -> None:
    """A metered price that is added within a period bills the usage from now on: of the events of
    this second, those that are reported later."""
    now, newest = data.clock.now(), data.all(EVENTS).last
    data.put({"id": item["id"], "object": STARTS, "at": now, "after": newest})


def usage_period(data: DataSet, item: Json) -> tuple[int, int]:
    """The part of the item's period in which it has its price."""
    started = data.get(STARTS, item["id"])
    start, end = item["current_period_start"], item["current_period_end"]
    return max(start, started["at"] if started else start), end


def put_usage_lines(data: DataSet, invoice: str, items: Collection[str]) -> None:
    """Remembers which items the invoice bills in arrears."""
    if items:
        data.put({"id": invoice, "object": ARREARS, "items": list(items)})


def with_late_usage(data: DataSet, draft: Json) -> Json:
    """The draft with the usage that was reported while it was a draft."""
    arrears = (data.get(ARREARS, draft["id"]) or {"items": []})["items"]
    lines = [with_current_usage(data, draft, line, arrears) for line in lines_of(data, draft["id"])]
    if lines == lines_of(data, draft["id"]):
        return draft
    return change(data, draft, "invoice.updated", **with_lines(data, draft, lines))


def with_current_usage(data: DataSet, draft: Json, line: Json, arrears: list[str]) -> Json:
    details = line["parent"]["subscription_item_details"] or {}
    if details.get("subscription_item") not in arrears:
        return line
    price, period = data.need("price", line["pricing"]["price_details"]["price"]), line["period"]
    item, customer = details["subscription_item"], draft["customer"]
    units = usage_between(data, price, item, customer, period["start"], period["end"])
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
    """The draft after billing credits were applied to its metered lines. They reduce the total and
    the taxes, not the subtotal."""
    lines = [
        {**line, "pretax_credit_amounts": apply_to_line(data, draft, line)}
        for line in lines_of(data, draft["id"])
    ]
    if not any(line["pretax_credit_amounts"] for line in lines):
        return draft
    return data.put({**draft, **with_lines(data, draft, lines)})


def apply_to_line(data: DataSet, invoice: Json, line: Json) -> list[Json]:
    price_id = ((line["pricing"] or {}).get("price_details") or {}).get("price")
    off = sum(each["amount"] for each in line["discount_amounts"])
    price, rest = data.get("price", price_id), line["amount"] - off
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
