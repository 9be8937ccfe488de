"""The line items of a checkout: as the caller sends them, as the row stores them, as Stripe takes
them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from billhook.checkout.prices import with_lookup_keys
from billhook.errors import InvalidInput
from billhook.models import CreateCheckoutSession as Order
from billhook.postgres import Database
from billhook.settings import Environment


@dataclass(frozen=True, slots=True)
class Item:
    """What is sold, and how many of it.

    Attributes:
        price_id: a price's id; None if there is `price_data`, as the caller sent it.
        adjustable: the bounds between which the buyer may change the quantity, if they may.
    """

    price_id: str | None
    quantity: int
    price_data: Mapping[str, Any] | None = None
    adjustable: Mapping[str, int] | None = None


def as_sent(order: Order) -> list[dict[str, Any]]:
    """The line items with the price's id or its lookup key, as the caller sent them."""
    items = order.line_items or ()
    return [item.model_dump(by_alias=True, exclude_none=True) for item in items]


def as_requested(stored: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stored line items without what `as_stored` adds."""
    return [
        {
            name: value
            for name, value in each.items()
            if name != "priceId" or "lookupKey" not in each
        }
        for each in stored
    ]


async def as_stored(
    database: Database, environment: Environment, order: Order
) -> list[dict[str, Any]]:
    """The line items as the row stores them. An item with a lookup key has the id of the mirrored
    price as well: the app's policies and triggers must see which price is sold. If no active price
    has the key, the id is missing."""
    sent = as_sent(order)
    keys = [each["lookupKey"] for each in sent if "lookupKey" in each]
    if keys:
        prices = await with_lookup_keys(database, environment, keys)
        for each in sent:
            if price_id := prices.get(each.get("lookupKey", "")):
                each["priceId"] = price_id
    return sent


def stored_in(column: str) -> list[dict[str, Any]] | None:
    """The line items in a row's column. None if they are no request's: callers may insert rows of
    their own."""
    try:
        found = orjson.loads(column)
    except orjson.JSONDecodeError:  # too deep, or a number too large
        return None
    return found if isinstance(found, list) and all(map(_is_item, found)) else None


def _is_item(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and (
            isinstance(value.get("priceId", value.get("lookupKey")), str)
            or isinstance(value.get("priceData"), dict)
        )
        and isinstance(value.get("quantity"), int)
    )


def items_of(environment: Environment, stored: Sequence[dict[str, Any]]) -> list[Item]:
    """The prices to sell.

    Raises:
        InvalidInput: no active price has the lookup key.
    """
    items = []
    for number, each in enumerate(stored):
        if "priceId" not in each and "priceData" not in each:
            raise InvalidInput(
                f"lineItems.{number}.lookupKey: no active price has the lookup key "
                f"{each['lookupKey']} in the {environment} environment",
                next_actions="Check the lookup key, or give it to a price: "
                "billhook prices update --lookup-key …. If the price is new in Stripe, wait for "
                "its event or run billhook sync. Then use a new idempotencyKey.",
            )
        items.append(
            Item(
                each.get("priceId"),
                each["quantity"],
                each.get("priceData"),
                each.get("adjustableQuantity"),
            )
        )
    return items
