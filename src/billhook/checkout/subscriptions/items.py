"""Which item of a subscription changes, and to what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billhook.checkout.prices import metering_at_stripe, mirrored_metering, with_lookup_keys
from billhook.errors import InvalidInput
from billhook.kinds.reading import hash_of, id_of
from billhook.kinds.subscriptions import ITEMS
from billhook.mirror.fetching import StripeReader
from billhook.models import ItemChange
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe.gateway import StripeObject


async def price_named(
    database: Database, environment: Environment, order: ItemChange
) -> str | None:
    """The price in an order, if there is one.

    Raises:
        InvalidInput: no active price has the lookup key.
    """
    if order.lookup_key is None:
        return order.price_id
    found = await with_lookup_keys(database, environment, [order.lookup_key])
    if order.lookup_key not in found:
        raise InvalidInput(
            f"lookupKey: no active price has the lookup key {order.lookup_key} in the "
            f"{environment} environment",
            next_actions="Check the lookup key, or give it to a price: "
            "billhook prices update --lookup-key …",
        )
    return found[order.lookup_key]


def item_to_change(subscription: StripeObject, order: ItemChange) -> StripeObject:
    """The item that an order changes.

    Args:
        subscription: with all its items.

    Raises:
        InvalidInput: there is no such item, or there are several to choose from.
    """
    items = ITEMS.entries(subscription)
    wanted = order.subscription_item_id
    found = [item for item in items if wanted is None or item.get("id") == wanted]
    if len(found) == 1:
        return dict(found[0])
    listed = ", ".join(f"{item.get('id')} ({id_of(item.get('price'))})" for item in items)
    raise InvalidInput(
        "subscriptionItemId: is required, because the subscription has several items"
        if wanted is None
        else f"subscriptionItemId: the subscription has no item {wanted}",
        next_actions=f"Its items: {listed}.",
    )


def price_of(item: Mapping[str, Any]) -> str | None:
    """The price of an item."""
    return id_of(item.get("price") or item.get("plan"))


def is_metered(item: StripeObject) -> bool:
    """Whether an item is charged by usage: such items have no quantity."""
    return hash_of(hash_of(item.get("price")).get("recurring")).get("usage_type") == "metered"


def changed_item(
    item: StripeObject, order: ItemChange, price_id: str | None, *, metered: bool
) -> dict[str, Any]:
    """An item as it is sent to Stripe. If the price of an item changes and no quantity is sent,
    Stripe sets it to one, so it is sent in any case.

    Args:
        price_id: the new price.
        metered: whether the item is charged by usage after the change.
    """
    changed: dict[str, Any] = {"id": item["id"]}
    if price_id is not None:
        changed["price"] = price_id
    quantity = item.get("quantity") if order.quantity is None else order.quantity
    if order.quantity is not None or (quantity is not None and not metered):
        changed["quantity"] = quantity
    return changed


async def item_of(
    reader: StripeReader,
    order: ItemChange,
    price_id: str | None,
    subscription: StripeObject,
) -> dict[str, Any]:
    """The item to send. Raises as `item_to_change`, and `BillhookError` if Stripe does not
    have the price."""
    item = item_to_change(subscription, order)
    metered = is_metered(item)
    if price_id is not None and price_id != price_of(item) and order.quantity is None:
        known = await mirrored_metering(reader.database, reader.environment, [price_id])
        if price_id not in known:
            known = await metering_at_stripe(
                reader.gateway, reader.environment, [price_id], reader.key
            )
        metered = known[price_id]
    return changed_item(item, order, price_id, metered=metered)
