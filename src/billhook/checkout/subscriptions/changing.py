"""The changes: check the rights, store what will be sent, change the subscription at Stripe, mirror
its answer. Each step is short, and an interrupted request is completed by its repetition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Any

from billhook.checkout.prices import metering_at_stripe, mirrored_metering, with_lookup_keys
from billhook.checkout.subscriptions import at_stripe, plans, requests
from billhook.checkout.subscriptions.requests import Call
from billhook.checkout.subscriptions.rights import (
    Operation,
    Target,
    authorize,
    require_recent,
    require_terms,
)
from billhook.errors import InvalidInput
from billhook.mirror.fetching import StripeReader, reader_of_account
from billhook.models import (
    CancelSubscription,
    ChangeRequest,
    ChangeSubscription,
    PauseSubscription,
    ResumeSubscription,
    SubscriptionResponse,
)
from billhook.postgres.refusals import unfinished
from billhook.stripe.gateway import StripeObject

Plan = Callable[[StripeReader], Awaitable[Sequence[Call]]]


async def change(target: Target, order: ChangeSubscription, now: datetime) -> SubscriptionResponse:
    """Change the price or the quantity of an item. Raises as `_make` does, and:

    Raises:
        Forbidden: a user's token asks for a change without prorations.
        InvalidInput: no price has the lookup key, the item is not clear, or the time of the
            prorations is not one of a recent preview.
    """
    require_terms(target, order)
    price_id = await price_of(target, order)

    async def plan(reader: StripeReader) -> Sequence[Call]:
        subscription = (await at_stripe.read(reader, target)).subscription
        require_recent(target, order, subscription, now)
        return plans.change_calls(order, await item_of(reader, order, price_id, subscription))

    return await _make(target, "change", order, plan, fields_with(order, price_id))


async def cancel(target: Target, order: CancelSubscription) -> SubscriptionResponse:
    """Cancel at the end of the period, or immediately. Raises as `_make` does."""

    async def plan(_: StripeReader) -> Sequence[Call]:
        return plans.cancel_calls(order)

    return await _make(target, "cancel", order, plan)


async def resume(target: Target, order: ResumeSubscription) -> SubscriptionResponse:
    """Make the subscription renew and be charged again: undo a scheduled cancellation and a pause.
    Raises as `_make` does, and:

    Raises:
        InvalidInput: it has ended.
    """

    async def plan(reader: StripeReader) -> Sequence[Call]:
        return plans.resume_calls((await at_stripe.read(reader, target)).subscription)

    return await _make(target, "resume", order, plan)


async def pause(target: Target, order: PauseSubscription) -> SubscriptionResponse:
    """Pause the collection of payments. Raises as `_make` does."""

    async def plan(_: StripeReader) -> Sequence[Call]:
        return plans.pause_calls(order)

    return await _make(target, "pause", order, plan)


async def _make(
    target: Target,
    operation: Operation,
    order: ChangeRequest,
    plan: Plan,
    fields: dict[str, Any] | None = None,
) -> SubscriptionResponse:
    """
    Raises:
        SubscriptionNotFound: there is none that the user may see.
        Forbidden: the user's policies do not allow it.
        IdempotencyKeyReused: the key was used for another change.
        PaymentConfigInvalid, PaymentMethodDeclined, RateLimited, UpstreamFailure: from Stripe.
        LeaseLost: another Stripe account was connected in the meantime.
        DatabaseRefused, DatabaseDuplicate: a check, trigger or key of the app rejects the row.
        DatabaseUnavailable: PostgreSQL is unavailable; the same request may be sent again.
    """
    await authorize(target, operation, requests.fields_of(order) if fields is None else fields)
    reader = await reader_of_account(target.database, target.gateway, target.environment)
    known = await requests.find(target, operation, order)
    if known is None:
        known = await requests.add(target, operation, order, await plan(reader))
    with unfinished("change of the subscription"):
        found = await (
            at_stripe.read(reader, target)
            if known.finished
            else at_stripe.carry_out(reader, target, order, known.calls)
        )
        return await at_stripe.mirror(reader, target, order, found)


async def price_of(target: Target, order: ChangeSubscription) -> str | None:
    """The new price, if there is one.

    Raises:
        InvalidInput: no active price has the lookup key.
    """
    if order.lookup_key is None:
        return order.price_id
    found = await with_lookup_keys(target.database, target.environment, [order.lookup_key])
    if order.lookup_key not in found:
        raise InvalidInput(
            f"lookupKey: no active price has the lookup key {order.lookup_key} in the "
            f"{target.environment} environment",
            next_actions="Check the lookup key, or give it to a price: "
            "billhook prices update --lookup-key …",
        )
    return found[order.lookup_key]


def fields_with(order: ChangeSubscription, price_id: str | None) -> dict[str, Any]:
    """What the policies see: the request, with the price that a lookup key names."""
    named = {} if price_id is None else {"priceId": price_id}
    return requests.fields_of(order) | named


async def item_of(
    reader: StripeReader,
    order: ChangeSubscription,
    price_id: str | None,
    subscription: StripeObject,
) -> dict[str, Any]:
    """The item to send. Raises as `plans.item_to_change`, and `BillhookError` if Stripe does not
    have the price."""
    item = plans.item_to_change(subscription, order)
    metered = plans.is_metered(item)
    if price_id is not None and price_id != plans.price_of(item) and order.quantity is None:
        known = await mirrored_metering(reader.database, reader.environment, [price_id])
        if price_id not in known:
            known = await metering_at_stripe(
                reader.gateway, reader.environment, [price_id], reader.key
            )
        metered = known[price_id]
    return plans.changed_item(item, order, price_id, metered=metered)
