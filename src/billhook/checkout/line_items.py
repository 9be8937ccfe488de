"""The prices of a checkout's line items, as Stripe takes them."""

from __future__ import annotations

from dataclasses import dataclass

from billhook.errors import InvalidInput
from billhook.kinds.catalog import PRICE
from billhook.kinds.reading import objects
from billhook.models import CreateCheckoutSession as Order
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

_AT_ONCE = 10
"""Lookup keys that Stripe takes in one request."""


@dataclass(frozen=True, slots=True)
class Item:
    """A price's id, and how many of it."""

    price_id: str
    quantity: int


async def items_of(
    gateway: Gateway, environment: Environment, order: Order, key: str
) -> list[Item]:
    """The order's line items. Prices that it names by lookup key are looked up at Stripe: the
    mirror may not yet know that another price has the key now.

    Raises:
        InvalidInput: no active price has the lookup key.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: Stripe.
    """
    wanted = list(dict.fromkeys(each.lookup_key for each in order.line_items if each.lookup_key))
    found: dict[str, str] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        params = {"lookup_keys": some, "active": True, "limit": 100}
        answer = await gateway.get(environment, PRICE.path, params, key=key)
        found |= {str(each.get("lookup_key")): each["id"] for each in objects(answer.data)}
    items = []
    for number, each in enumerate(order.line_items):
        price_id = each.price_id or found.get(each.lookup_key or "")
        if price_id is None:
            raise InvalidInput(
                f"lineItems.{number}.lookupKey: no active price has the lookup key "
                f"{each.lookup_key} in the {environment} environment",
                next_actions="Check the lookup key, or give it to a price: "
                "billhook prices update --lookup-key …",
            )
        items.append(Item(price_id, each.quantity))
    return items
