"""A change within a period: the unused time is given back, the new price billed for the rest."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import invoice_collection, subscription_renewal
from billhook_sandbox.flows.invoice_drafts import draft_invoice, product_name
from billhook_sandbox.objects.catalog import billed_units
from billhook_sandbox.objects.invoice_items import make_invoice_item
from billhook_sandbox.objects.subscriptions import items_of, with_items
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json


def prorate(data: DataSet, subscription: Json, before: list[Json], after: list[Json]) -> int:
    """Makes the invoice items for what differs; answers how many."""
    if subscription["status"] not in ("active", "past_due"):
        return 0
    old, new = ({item["id"]: item for item in items} for items in (before, after))
    made = 0
    for name in dict.fromkeys([*old, *new]):
        was, is_ = old.get(name), new.get(name)
        if was and is_ and billed(was) == billed(is_):
            continue
        made += bool(was and add_proration(data, subscription, was, -1))
        made += bool(is_ and not restarts(was, is_) and add_proration(data, subscription, is_, 1))
    return made


def billed(item: Json) -> tuple[str, int]:
    return item["price"]["id"], billed_units(item)


def restarts(was: Json | None, is_: Json) -> bool:
    """Another interval begins a period of its own, at once."""
    if was is None:
        return False
    old, new = was["price"]["recurring"], is_["price"]["recurring"]
    keys = ("interval", "interval_count")
    return any(old[key] != new[key] for key in keys)


def add_proration(data: DataSet, subscription: Json, item: Json, sign: int) -> Json:
    start, end, now = item["current_period_start"], item["current_period_end"], data.clock.now()
    units = billed_units(item)
    whole = (item["price"]["unit_amount"] or 0) * units
    amount = sign * round(whole * max(0, end - now) / (end - start))
    name = product_name(data, item["price"])
    text = f"Unused time on {name}" if sign < 0 else f"Remaining time on {name}"
    made = make_invoice_item(
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
    emit(data, "invoiceitem.created", made)
    return made


def restart(data: DataSet, subscription: Json, items: list[Json]) -> list[Json]:
    """All items begin a new period now."""
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
    """An invoice of what is pending, and of these items' new periods."""
    name = data.ids.new("invoice")
    subscription = change(data, subscription, "customer.subscription.updated", latest_invoice=name)
    draft = draft_invoice(data, name, subscription, items, "subscription_update")
    invoice_collection.advance_invoice(data, draft)
    return data.need("subscription", subscription["id"])


def resume(data: DataSet, subscription: Json) -> Json:
    """A paused one goes on with a period that begins now."""
    items = restart(data, subscription, items_of(data, subscription["id"]))
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
