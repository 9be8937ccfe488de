"""What a change sends to Stripe: pure functions of the request and the subscription."""

from __future__ import annotations

from typing import Any

from billhook.checkout.subscriptions.requests import Call
from billhook.errors import InvalidInput
from billhook.kinds.reading import hash_of, id_of
from billhook.kinds.subscriptions import ITEMS
from billhook.models import CancelSubscription, ChangeSubscription, PauseSubscription
from billhook.stripe.gateway import StripeObject

ENDED = frozenset({"canceled", "incomplete_expired"})
WITH_INVOICE = {"expand": ["latest_invoice"]}


def item_to_change(subscription: StripeObject, order: ChangeSubscription) -> StripeObject:
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


def price_of(item: StripeObject) -> str | None:
    """The price of an item."""
    return id_of(item.get("price") or item.get("plan"))


def is_metered(item: StripeObject) -> bool:
    """Whether an item is charged by usage: such items have no quantity."""
    return hash_of(hash_of(item.get("price")).get("recurring")).get("usage_type") == "metered"


def changed_item(
    item: StripeObject, order: ChangeSubscription, price_id: str | None, *, metered: bool
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


def change_calls(order: ChangeSubscription, item: dict[str, Any]) -> list[Call]:
    """The calls of a change of plan or quantity."""
    params: dict[str, Any] = {"items": [item], "proration_behavior": order.proration_behavior}
    if order.payment_behavior is not None:
        params["payment_behavior"] = order.payment_behavior
    if order.proration_date is not None:
        params["proration_date"] = int(order.proration_date.timestamp())
    return [Call("post", params | WITH_INVOICE)]


def cancel_calls(order: CancelSubscription) -> list[Call]:
    """The calls of a cancellation."""
    details = {
        name: value
        for name, value in (("comment", order.comment), ("feedback", order.feedback))
        if value is not None
    }
    params: dict[str, Any] = {"cancellation_details": details} if details else {}
    if order.at_period_end:
        return [Call("post", {"cancel_at_period_end": True, **params})]
    return [Call("delete", params)]


def pause_calls(order: PauseSubscription) -> list[Call]:
    """The calls that pause collection."""
    pause: dict[str, Any] = {"behavior": order.behavior}
    if order.resumes_at is not None:
        pause["resumes_at"] = int(order.resumes_at.timestamp())
    return [Call("post", {"pause_collection": pause})]


def resume_calls(subscription: StripeObject) -> list[Call]:
    """The calls after which the subscription renews and is charged, whatever had been in the way: a
    scheduled cancellation, paused collection, or the status `paused`. None if nothing is.

    Raises:
        InvalidInput: it has ended.
    """
    if subscription.get("status") in ENDED:
        raise InvalidInput(
            f"The subscription {subscription.get('id')} has ended and cannot be resumed.",
            next_actions="Start a new one with a checkout.",
        )
    params: dict[str, Any] = {}
    if subscription.get("cancel_at_period_end") is True:
        params["cancel_at_period_end"] = False
    elif subscription.get("cancel_at") is not None:
        params["cancel_at"] = ""
    if subscription.get("pause_collection"):
        params["pause_collection"] = ""
    calls = [Call("post", params)] if params else []
    if subscription.get("status") == "paused":
        calls.append(Call("post", dict(WITH_INVOICE), step="/resume"))
    return calls
