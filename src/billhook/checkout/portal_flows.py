"""Deep links into the customer portal: what the row stores, and what Stripe gets."""

from __future__ import annotations

from typing import Any

from billhook.checkout.subscriptions.items import item_of, price_named
from billhook.errors import BillhookError, InvalidInput, SubscriptionNotFound
from billhook.kinds import SUBSCRIPTION
from billhook.kinds.reading import id_of
from billhook.mirror.fetching import StripeReader, complete_children, path_of
from billhook.models import AfterCompletion, FlowData
from billhook.postgres import Database
from billhook.settings import Environment


async def as_stored(database: Database, environment: Environment, flow: FlowData) -> dict[str, Any]:
    """The flow as the row stores it. An item with a lookup key has the id of the mirrored price as
    well: the app's policies must see which price is offered.

    Raises:
        InvalidInput: no active price has the lookup key.
    """
    stored = flow.model_dump(mode="json", by_alias=True, exclude_none=True)
    for item, shown in zip(flow.items or (), stored.get("items", ()), strict=True):
        try:
            price_id = await price_named(database, environment, item)
        except InvalidInput as error:
            error.message = f"flowData.items.0.{error.message}"
            raise
        if price_id is not None:
            shown["priceId"] = price_id
    return stored


async def at_stripe(
    reader: StripeReader, customer: str, flow: FlowData, stored: dict[str, Any]
) -> dict[str, Any]:
    """The flow as Stripe takes it.

    Args:
        customer: of the portal session.
        stored: what the row stores.

    Raises:
        SubscriptionNotFound: the customer has no such subscription.
        InvalidInput: the item to change is not clear.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
    """
    params: dict[str, Any] = {"type": flow.type}
    if flow.subscription_id is not None:
        items = await _items(reader, customer, flow, stored)
        named = {"subscription": flow.subscription_id}
        params[flow.type] = named | ({"items": items} if items else {})
    if flow.after_completion is not None:
        params["after_completion"] = _completion(flow.after_completion)
    return params


async def _items(
    reader: StripeReader, customer: str, flow: FlowData, stored: dict[str, Any]
) -> list[dict[str, Any]]:
    """What is to be confirmed, after checking whose subscription it is."""
    assert flow.subscription_id is not None
    path = path_of(SUBSCRIPTION, flow.subscription_id)
    try:
        fetched = await reader.gateway.get(reader.environment, path, key=reader.key)
    except BillhookError as error:
        if error.status == 404:
            raise _not_theirs(reader.environment, flow.subscription_id) from error
        raise
    subscription = fetched.data
    if id_of(subscription.get("customer")) != customer:
        raise _not_theirs(reader.environment, flow.subscription_id)
    items: list[dict[str, Any]] = []
    for item, shown in zip(flow.items or (), stored.get("items", ()), strict=True):
        await complete_children(reader, SUBSCRIPTION, subscription)
        items.append(await item_of(reader, item, shown.get("priceId"), subscription))
    return items


def _not_theirs(environment: Environment, subscription_id: str) -> SubscriptionNotFound:
    return SubscriptionNotFound(
        f"The subject's customer has no subscription {subscription_id} in the {environment} "
        "environment.",
        next_actions="Check flowData.subscriptionId, and whose portal it is.",
    )


def _completion(completion: AfterCompletion) -> dict[str, Any]:
    if completion.type == "redirect":
        return {"type": "redirect", "redirect": {"return_url": completion.return_url}}
    params: dict[str, Any] = {"type": completion.type}
    if completion.message is not None:
        params["hosted_confirmation"] = {"custom_message": completion.message}
    return params
