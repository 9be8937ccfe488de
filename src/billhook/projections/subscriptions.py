"""Subscriptions → what they are worth from then on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from billhook.kinds.reading import StripeObject, id_of
from billhook.kinds.recurring import terms_of, worth_before, worth_of
from billhook.projections.changes import SubscriptionState, Value


def state_of(
    subscription: StripeObject, at: int, previous: Mapping[str, Any] | None = None
) -> SubscriptionState | None:
    """The state of a subscription at a time; None if it does not say.

    Args:
        previous: the event's `previous_attributes`.
    """
    subscription_id, worth = id_of(subscription), worth_of(subscription)
    if subscription_id is None or worth is None:
        return None
    state = SubscriptionState(
        subscription_id=subscription_id,
        at=at,
        customer_id=worth.customer_id,
        currency=worth.currency,
        period_amount=worth.period_amount,
        gross=worth.gross,
        discounts=worth.discounts,
        had=worth.monthly if worth.counted_from is not None else 0,
        had_from=worth.counted_from,
        had_to=worth.counted_to,
        terms=tuple(terms_of(subscription)),
    )
    before = worth_before(subscription, previous)
    if before is None:
        return state
    # Until this event, it was worth what the event says.
    return replace(
        state,
        before=Value(before.gross, before.period_amount, before.discounts),
        had=before.gross,
        had_from=before.counted_from if before.gross else None,
        had_to=None,
    )
