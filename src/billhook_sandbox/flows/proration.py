"""Prorations: credits for unused time, and charges for the rest of the period."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_collection, subscription_renewal
from billhook_sandbox.flows.invoice_drafts import draft_invoice, product_name
from billhook_sandbox.objects.catalog import advance_amount, billed_units
from billhook_sandbox.objects.invoice_item import make_invoice_item
from billhook_sandbox.objects.subscription import items_of, with_items
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json


def prorate(data: DataSet, subscription: Json, before: list[Json], after: list[Json]) -> None:
    """Creates invoice items for the items that changed."""
    if subscription["status"] not in ("active", "past_due"):
        return
    old, new = ({item["id"]: item for item in items} for items in (before, after))
    for item_id in dict.fromkeys([*old, *new]):
        old_item, new_item = old.get(item_id), new.get(item_id)
        if old_item and new_item and billed(old_item) == billed(new_item):
            continue
        if old_item:
            add_proration(data, subscription, old_item, -1)
        if new_item and not changes_interval(old_item, new_item):
            add_proration(data, subscription, new_item, 1)


def billed(item: Json) -> tuple[str, int]:
    return item["price"]["id"], billed_units(item)


def changes_interval(before: Json | None, after: Json) -> bool:
    """Whether the billing interval differs, which starts a new period immediately."""
    if before is None:
        return False
    old, new = before["price"]["recurring"], after["price"]["recurring"]
    return any(old[key] != new[key] for key in ("interval", "interval_count"))


def add_proration(data: DataSet, subscription: Json, item: Json, sign: int) -> None:
    start, end, now = item["current_period_start"], item["current_period_end"], data.clock.now()
    units = billed_units(item)
    full_amount = advance_amount(data, item)
    amount = sign * round(full_amount * max(0, end - now) / (end - start))
    name = product_name(data, item["price"])
    text = f"Unused time on {name}" if sign < 0 else f"Remaining time on {name}"
    invoice_item = make_invoice_item(
        data,
        data.need("customer", subscription["customer"]),
        amount,
        subscription["currency"],
        subscription=subscription["id"],
        price=item["price"],
        description=text,
        discountable=False,
        period={"start": now, "end": end},
        proration=True,
        proration_details={"credited_items": None, "discount_amounts": []},
        quantity=units,
        quantity_decimal=str(units),
    )
    emit(data, "invoiceitem.created", invoice_item)


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
