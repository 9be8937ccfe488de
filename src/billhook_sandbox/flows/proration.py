"""Prorations: credits for unused time, and charges for the rest of the period."""

from fractions import Fraction
from typing import NamedTuple

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_collection, subscription_renewal
from billhook_sandbox.flows.invoice_drafts import draft_invoice, product_name
from billhook_sandbox.flows.subscription_discounts import current_discounts
from billhook_sandbox.flows.usage_billing import usage_between, usage_period
from billhook_sandbox.objects.catalog import advance_amount, billed_units, is_metered
from billhook_sandbox.objects.discount import coupon_of, discount_amounts
from billhook_sandbox.objects.invoice_item import make_invoice_item, subscription_item_of
from billhook_sandbox.objects.invoice_totals import lines_of
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.objects.subscription import items_of, with_items
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json


class Billing(NamedTuple):
    """How a change of items is billed."""

    at: int
    """The time that prorations are calculated for."""
    prorates: bool
    new_period: bool
    """Whether all items get a new period, which is billed in full."""
    bills_now: bool
    """Whether the prorations are invoiced immediately, not with the next renewal."""


def prorate(
    data: DataSet, subscription: Json, before: list[Json], after: list[Json], billing: Billing
) -> None:
    """Creates invoice items for what the change ends and starts: usage, credits and charges."""
    if subscription["status"] not in ("active", "past_due"):
        return
    old, new = ({item["id"]: item for item in items} for items in (before, after))
    for item_id in dict.fromkeys([*old, *new]):
        old_item, new_item = old.get(item_id), new.get(item_id)
        same = old_item and new_item and billed(old_item) == billed(new_item)
        if same and not billing.new_period:
            continue
        if old_item and is_metered(old_item["price"]):
            if same or billing.prorates:
                bill_usage(data, subscription, old_item)
        elif old_item and billing.prorates:
            credit_rest(data, subscription, old_item, billing.at)
        charged = billing.prorates and not billing.new_period
        if new_item and charged and not is_metered(new_item["price"]):
            charge_rest(data, subscription, new_item, after, billing)


def billed(item: Json) -> tuple[str, int]:
    return item["price"]["id"], billed_units(item)


def changes_interval(before: Json | None, after: Json) -> bool:
    """Whether the billing interval differs, which starts a new period immediately."""
    if before is None:
        return False
    old, new = before["price"]["recurring"], after["price"]["recurring"]
    return any(old[key] != new[key] for key in ("interval", "interval_count"))


def bill_usage(data: DataSet, subscription: Json, item: Json) -> None:
    """Bills the usage until now of a metered price that is removed, or whose period ends early."""
    (start, _), end = usage_period(data, item), data.clock.now() + 1
    customer = subscription["customer"]
    units = usage_between(data, item["price"], item["id"], customer, start, end)
    if units:
        text = f"{units} × {product_name(data, item['price'])}"
        amount = amount_for(data, item["price"], units)
        period = {"start": start, "end": end - 1}
        add_item(data, subscription, item, amount, units, description=text, period=period)


def charge_rest(
    data: DataSet, subscription: Json, item: Json, items: list[Json], billing: Billing
) -> None:
    """Charges the rest of the period, less the discounts (`proration_discounts: included`)."""
    start, end = item["current_period_start"], item["current_period_end"]
    share = Fraction(max(0, end - billing.at), end - start)
    discounts = prorated_discounts(data, subscription, billing.bills_now)
    amounts = [advance_amount(data, each) for each in items]
    place = next(i for i, each in enumerate(items) if each["id"] == item["id"])
    parts = discount_amounts(data, discounts, amounts)[place]
    off = [{"amount": round(part * share), "discount": each["id"]} for each, part in parts]
    rest = amounts[place] - sum(part for _, part in parts)
    add_item(
        data,
        subscription,
        item,
        round(rest * share),
        billed_units(item),
        description=f"Remaining time on {product_name(data, item['price'])}",
        discountable=False,
        period={"start": billing.at, "end": end},
        proration=True,
        proration_details={"credited_items": None, "discount_amounts": off},
    )


def prorated_discounts(data: DataSet, subscription: Json, bills_now: bool) -> list[Json]:
    """A discount that applies once is for the next invoice: if the proration waits for the
    renewal, the discount reduces what the renewal itself bills."""
    found = [data.need("discount", each) for each in current_discounts(data, subscription)]
    return [each for each in found if bills_now or coupon_of(data, each)["duration"] != "once"]


def credit_rest(data: DataSet, subscription: Json, item: Json, at: int) -> None:
    """Credits the rest of what was charged for the item, not of what it would cost now (flexible
    billing mode)."""
    charge = charge_of(data, subscription, item)
    if charge is None:
        return
    share = Fraction(min(max(0, charge.end - at), charge.end - charge.start), charge.length)
    add_item(
        data,
        subscription,
        item,
        -round(charge.amount * share),
        billed_units(item),
        description=f"Unused time on {product_name(data, item['price'])}",
        discountable=False,
        period={"start": at, "end": charge.end},
        proration=True,
        proration_details={"credited_items": charge.reference, "discount_amounts": []},
    )


def add_item(
    data: DataSet, subscription: Json, item: Json, amount: int, units: int, **values: object
) -> None:
    invoice_item = make_invoice_item(
        data,
        data.need("customer", subscription["customer"]),
        amount,
        subscription["currency"],
        subscription=subscription["id"],
        subscription_item=item["id"],
        price=item["price"],
        quantity=units,
        quantity_decimal=str(units),
        **values,
    )
    emit(data, "invoiceitem.created", invoice_item)


class Charge(NamedTuple):
    """What was charged for an item in its current period, less discounts."""

    amount: int
    start: int
    end: int
    reference: Json

    @property
    def length(self) -> int:
        return max(1, self.end - self.start)


def charge_of(data: DataSet, subscription: Json, item: Json) -> Charge | None:
    """The latest charge: a proration within the period, else the line of an invoice."""
    for found in reversed(data.all("invoiceitem").where("customer", subscription["customer"])):
        invoice = data.get("invoice", found["invoice"])
        if (
            found["proration"]
            and found["amount"] >= 0
            and subscription_item_of(found) == item["id"]
            and found["period"]["end"] == item["current_period_end"]
            and (invoice is None or invoice["status"] != "void")
        ):
            reference = {"invoice_item": found["id"], "type": "invoice_item"}
            period = found["period"]
            return Charge(found["amount"], period["start"], period["end"], reference)
    for invoice in reversed(data.all("invoice").where("customer", subscription["customer"])):
        for line in lines_of(data, invoice["id"]) if invoice["status"] != "void" else ():
            details = line["parent"]["subscription_item_details"] or {}
            if (
                details.get("subscription_item") == item["id"]
                and line["period"]["end"] == item["current_period_end"]
            ):
                off = sum(each["amount"] for each in line["discount_amounts"])
                named = {"invoice": invoice["id"], "invoice_line_items": [line["id"]]}
                reference = {
                    "invoice_line_item_details": named,
                    "type": "invoice_line_items",
                }
                period = line["period"]
                return Charge(line["amount"] - off, period["start"], period["end"], reference)
    return None


def with_new_period(data: DataSet, subscription: Json, items: list[Json]) -> list[Json]:
    """The items with a new period that starts now."""
    now = data.clock.now()
    return [
        {
            **item,
            "current_period_start": now,
            "current_period_end": period_end(now, item["price"]["recurring"], anchor=now),
        }
        for item in items
    ]


def bill_now(data: DataSet, subscription: Json, items: list[Json]) -> Json:
    """Invoices the pending invoice items, and the new periods of these items."""
    invoice_id = data.ids.new("invoice")
    subscription = change(
        data, subscription, "customer.subscription.updated", latest_invoice=invoice_id
    )
    draft = draft_invoice(data, invoice_id, subscription, items, "subscription_update")
    invoice_collection.advance_invoice(data, draft)
    return data.need("subscription", subscription["id"])


def resume(data: DataSet, subscription: Json) -> Json:
    """Resumes a paused subscription with a period that starts now."""
    items = with_new_period(data, subscription, items_of(data, subscription["id"]))
    changes = with_items(data, subscription, items)
    subscription = change(
        data,
        subscription,
        "customer.subscription.updated",
        billing_cycle_anchor=data.clock.now(),
        status="active",
        **changes,
    )
    emit(data, "customer.subscription.resumed", subscription)
    subscription_renewal.schedule_renewal(data, subscription)
    return bill_now(data, subscription, items)
