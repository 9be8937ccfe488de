"""Changes of a subscription's items, and how they are billed."""

from typing import NamedTuple

from billhook_sandbox.cards import DECLINES
from billhook_sandbox.errors import CardRefused, InvalidRequest, resource_missing
from billhook_sandbox.event_log import change
from billhook_sandbox.flows import (
    charge_attempts,
    invoice_lifecycle,
    pending_updates,
    proration,
    subscription_renewal,
)
from billhook_sandbox.flows.proration import Billing
from billhook_sandbox.flows.subscription_creation import payment_method_for
from billhook_sandbox.flows.usage_billing import start_usage
from billhook_sandbox.objects.catalog import is_metered, legacy_plan, quantity_of
from billhook_sandbox.objects.subscription import items_of, make_item, period_of, with_items
from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json

MAX_ITEMS = 20


class ItemChange(NamedTuple):
    """The items of a subscription, and what they are changed to."""

    before: list[Json]
    after: list[Json]
    billing: Billing


def change_items(
    data: DataSet, subscription: Json, wanted: list[Json], given: Json, values: Json
) -> Json:
    """Changes the items and bills the difference.

    `given` has the parameters `payment_behavior`, `proration_behavior` and `proration_date`,
    `values` the other fields to change.
    """
    subscription = pending_updates.discard(data, subscription)
    changed = item_change(data, subscription, wanted, given)
    payment, bills_now = given.get("payment_behavior"), changed.billing.bills_now
    if bills_now and payment == "error_if_incomplete":
        require_payment(data, subscription, wanted, given)
    discounts = values.get("discounts", subscription["discounts"])
    proration.prorate(data, {**subscription, "discounts": discounts}, *changed)
    if bills_now and payment == "pending_if_incomplete":
        return pending_updates.change_if_paid(data, subscription, changed.after, apply, values)
    subscription, billed = apply(data, subscription, changed.after, values)
    if bills_now and payment == "default_incomplete":
        return pending_updates.bill_later(data, subscription, billed)
    return proration.bill_now(data, subscription, billed) if bills_now else subscription


def item_change(data: DataSet, subscription: Json, wanted: list[Json], given: Json) -> ItemChange:
    before = items_of(data, subscription["id"])
    after = changed_items(data, subscription, wanted)
    behavior = given.get("proration_behavior", "create_prorations")
    new_period = subscription["status"] != "trialing" and starts_new_period(before, after)
    billing = Billing(
        at=proration_time(data, before, given.get("proration_date")),
        prorates=behavior != "none",
        new_period=new_period,
        bills_now=new_period or behavior == "always_invoice",
    )
    return ItemChange(before, after, billing)


def starts_new_period(before: list[Json], after: list[Json]) -> bool:
    old = {item["id"]: item for item in before}
    return any(proration.changes_interval(old.get(item["id"]), item) for item in after)


def apply(
    data: DataSet, subscription: Json, after: list[Json], values: Json
) -> tuple[Json, list[Json]]:
    """Changes the items; returns the subscription, and the items whose new period is to be billed
    now."""
    before = items_of(data, subscription["id"])
    billed: list[Json] = []
    if subscription["status"] != "trialing" and starts_new_period(before, after):
        billed = after = proration.with_new_period(data, subscription, after)
        values = {**values, "billing_cycle_anchor": data.clock.now()}
    old, remaining = {item["id"]: item for item in before}, {item["id"] for item in after}
    for item in after:
        same = item["id"] in old and old[item["id"]]["price"]["id"] == item["price"]["id"]
        if is_metered(item["price"]) and (billed or not same):
            start_usage(data, item)
    for item in before:
        if item["id"] not in remaining:
            data.remove("subscription_item", item["id"])
    changes = with_items(data, subscription, after)
    subscription = change(
        data, subscription, "customer.subscription.updated", **{**values, **changes}
    )
    if billed:
        subscription_renewal.schedule_renewal(data, subscription)
    return subscription, billed


def proration_time(data: DataSet, items: list[Json], wanted: int | None) -> int:
    if wanted is None:
        return data.clock.now()
    start, end = period_of(items)
    if not start <= wanted <= end:
        raise InvalidRequest(
            f"`proration_date` ({wanted}) must be within the current billing period, from {start} "
            f"to {end}.",
            param="proration_date",
        )
    return wanted


def require_payment(data: DataSet, subscription: Json, wanted: list[Json], given: Json) -> None:
    """Raises CardRefused if the change needs a payment that fails."""
    with data.trial_run():
        given = {**given, "payment_behavior": "pending_if_incomplete"}
        tried = change_items(data, subscription, wanted, given, {})
        intent = invoice_lifecycle.latest_intent(data, tried["latest_invoice"])
    if tried["pending_update"] is None:
        return
    customer = data.need("customer", subscription["customer"])
    method = payment_method_for(data, customer, subscription)
    if method is None:
        message = "This customer has no attached payment source or default payment method."
        raise InvalidRequest(message, code="resource_missing")
    card = charge_attempts.card_for(data, method, customer["id"])
    if card.payment == "declined":
        code, reason = card.error_code, card.decline_code
        raise CardRefused(DECLINES[reason], code=code, decline_code=reason)
    raise CardRefused(
        "Payment for this subscription requires additional user action.",
        code="subscription_payment_intent_requires_action",
        payment_intent=intent,
    )


def recurring_price(data: DataSet, price_id: str, param: str) -> Json:
    price = data.need("price", price_id, param)
    if price["recurring"] is None:
        message = "The price specified is set to `type=one_time` but this field only "
        raise InvalidRequest(message + "accepts prices with `type=recurring`.", param=param)
    return price


def changed_items(data: DataSet, subscription: Json, given: list[Json]) -> list[Json]:
    """All items after the change; items that are not named stay unchanged."""
    items = {item["id"]: item for item in items_of(data, subscription["id"])}
    start, end = period_of(list(items.values()))
    for i, wanted in enumerate(given):
        price = None
        if "price" in wanted:
            price = recurring_price(data, wanted["price"], f"items[{i}][price]")
        if "id" in wanted:
            if wanted["id"] not in items:
                raise resource_missing("subscription_item", wanted["id"], f"items[{i}][id]", 400)
            check_clear_usage(items[wanted["id"]], wanted, f"items[{i}]")
            items[wanted["id"]] = changed_item(items[wanted["id"]], wanted, price, f"items[{i}]")
        elif price is None:
            param = f"items[{i}][price]"
            message = f"Missing required param: {param}."
            raise InvalidRequest(message, code="parameter_missing", param=param)
        else:
            quantity = quantity_of(wanted, price, f"items[{i}]", default=1)
            item = make_item(data, subscription["id"], price, quantity, start, end)
            items[item["id"]] = item
    deleted = [wanted["id"] for wanted in given if wanted.get("deleted") and "id" in wanted]
    remaining = [item for item in items.values() if item["id"] not in deleted]
    if not 1 <= len(remaining) <= MAX_ITEMS:
        message = f"A subscription must have between 1 and {MAX_ITEMS} items."
        raise InvalidRequest(message, param="items")
    return remaining


def check_clear_usage(item: Json, wanted: Json, param: str) -> None:
    """`clear_usage` has no effect on prices with a meter: their usage belongs to the meter."""
    if wanted.get("clear_usage") and not is_metered(item["price"]):
        message = "`clear_usage` is only allowed for items whose price is metered."
        raise InvalidRequest(message, param=f"{param}[clear_usage]")


def changed_item(item: Json, wanted: Json, price: Json | None, param: str) -> Json:
    """An item whose price changes has the quantity 1, unless the request has another."""
    same = price is None or price["id"] == item["price"]["id"]
    price = price or item["price"]
    default = item.get("quantity", 1) if same else 1
    quantity = quantity_of(wanted, price, param, default=default)
    rest = {key: value for key, value in item.items() if key != "quantity"}
    return {
        **rest,
        "metadata": merge_metadata(item["metadata"], wanted.get("metadata", {})),
        "plan": legacy_plan(price),
        "price": price,
        **({} if quantity is None else {"quantity": quantity}),
    }


def kept_quantity(item: Json, price: Json) -> Json:
    """The parameter that keeps an item's quantity when its price changes."""
    return {} if is_metered(price) or "quantity" not in item else {"quantity": item["quantity"]}
