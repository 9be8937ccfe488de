"""The changes: check the rights, store what will be sent, change the subscription at Stripe, mirror
its answer. Each step is short, and an interrupted request is completed by its repetition."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from billhook.checkout.live_reader import live_reader
from billhook.checkout.subscriptions import at_stripe, plans, requests
from billhook.checkout.subscriptions.items import item_of, price_named
from billhook.checkout.subscriptions.requests import Call
from billhook.checkout.subscriptions.rights import (
    Operation,
    Target,
    authorize,
    require_recent,
    require_terms,
)
from billhook.mirror.fetching import StripeReader
from billhook.models import (
    CancelSubscription,
    ChangeRequest,
    ChangeSubscription,
    PauseSubscription,
    ResumeSubscription,
    SubscriptionResponse,
)
from billhook.postgres.refusals import unfinished

Plan = Callable[[StripeReader], Awaitable[Sequence[Call]]]


async def change(target: Target, order: ChangeSubscription) -> SubscriptionResponse:
    """Change the price or the quantity of an item. Raises as `_make` does, and:

    Raises:
        Forbidden: a user's token asks for a change without prorations.
        InvalidInput: no price has the lookup key, the item is not clear, or the time of the
            prorations is not one of a recent preview.
    """
    require_terms(target, order)
    price_id = await price_named(target.database, target.environment, order)

    async def plan(reader: StripeReader) -> Sequence[Call]:
        found = await at_stripe.read(reader, target)
        require_recent(target, order, found.subscription, found.at)
        return plans.change_calls(order, await item_of(reader, order, price_id, found.subscription))

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
        DatabaseRefused: a rule of the app rejects the row.
        DatabaseUnavailable: PostgreSQL is unavailable; the same request may be sent again.
    """
    await authorize(target, operation, requests.fields_of(order) if fields is None else fields)
    reader = await live_reader(target.database, target.gateway, target.environment)
    known = await requests.find(target, operation, order)
    if known is None:
        known = await requests.add(target, operation, order, await plan(reader))
    with unfinished("change of the subscription"):
        found = await (
            at_stripe.read(reader, target)
            if known.finished
            else at_stripe.carry_out(reader, target, order, known)
        )
        return await at_stripe.mirror(reader, target, order, found)


def fields_with(order: ChangeSubscription, price_id: str | None) -> dict[str, Any]:
    """What the policies see: the request, with the price that a lookup key names."""
    named = {} if price_id is None else {"priceId": price_id}
    return requests.fields_of(order) | named
