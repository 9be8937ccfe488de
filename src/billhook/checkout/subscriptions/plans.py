"""What a change sends to Stripe: pure functions of the request and the subscription."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from billhook.checkout.subscriptions.items import price_of
from billhook.checkout.subscriptions.requests import Call
from billhook.errors import InvalidInput
from billhook.kinds.reading import entries, hash_of
from billhook.kinds.subscriptions import ITEMS
from billhook.models import CancelSubscription, ChangeSubscription, PauseSubscription
from billhook.stripe.gateway import StripeObject

ENDED = frozenset({"canceled", "incomplete_expired"})
WITH_INVOICE = {"expand": ["latest_invoice"]}


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
        return [Call("post", {"cancel_at_period_end": True, **params, **WITH_INVOICE})]
    return [Call("delete", params | WITH_INVOICE)]


def pause_calls(order: PauseSubscription) -> list[Call]:
    """The calls that pause collection."""
    pause: dict[str, Any] = {"behavior": order.behavior}
    if order.resumes_at is not None:
        pause["resumes_at"] = int(order.resumes_at.timestamp())
    return [Call("post", {"pause_collection": pause, **WITH_INVOICE})]


def is_made(call: Call, subscription: StripeObject) -> bool:
    """Whether a subscription is as a call would make it, or will be once it is paid for."""
    params = call.params
    if call.method == "delete":
        return subscription.get("status") in ENDED
    if call.step == "/resume":
        return subscription.get("status") != "paused"
    if "items" in params:
        pending = entries(hash_of(subscription.get("pending_update")).get("subscription_items"))
        items = {item.get("id"): item for item in [*ITEMS.entries(subscription), *pending]}
        return all(_is_as(items.get(wanted["id"], {}), wanted) for wanted in params["items"])
    return (
        ("pause_collection" not in params or _is_paused_as(subscription, params))
        and params.get("cancel_at_period_end") in (None, subscription.get("cancel_at_period_end"))
        and ("cancel_at" not in params or subscription.get("cancel_at") is None)
    )


def _is_paused_as(subscription: StripeObject, params: dict[str, Any]) -> bool:
    wanted, shown = params["pause_collection"], hash_of(subscription.get("pause_collection"))
    if not wanted:
        return not shown
    return all(shown.get(name) == value for name, value in wanted.items())


def _is_as(item: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return wanted.get("price") in (None, price_of(item)) and (
        "quantity" not in wanted or wanted["quantity"] == item.get("quantity")
    )


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
    calls = [Call("post", params | WITH_INVOICE)] if params else []
    if subscription.get("status") == "paused":
        calls.append(Call("post", dict(WITH_INVOICE), step="/resume"))
    return calls
