"""Who may change a subscription: the app's policies on `payments.stripe_subscriptions` decide.

They are checked as the caller, in a transaction of its own that ends before Stripe is called.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from billhook.access.auth import Caller
from billhook.errors import Forbidden, InvalidInput, SubscriptionNotFound
from billhook.models import ChangeSubscription
from billhook.postgres import Database
from billhook.postgres.own_rows import as_user, may_change
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject

TABLE = "payments.stripe_subscriptions"

Operation = Literal["preview", "change", "cancel", "resume", "pause"]

# For policies: payments.requested_change().
_TELL = "SELECT pg_catalog.set_config('billhook.requested_change', $1, true)"
_SEEN = """
SELECT EXISTS (
    SELECT FROM payments.stripe_subscriptions WHERE environment = $1 AND subscription_id = $2)
"""

_PREVIEW_LASTS = 3600  # seconds
_A_MOMENT = 60  # seconds for which a time may be ahead


@dataclass(frozen=True, slots=True)
class Target:
    """A subscription, and who asks for a change.

    Attributes:
        user: whose policies decide; None for the server and operators, who may change all.
        trusted: whether the request comes from a server or an operator, even if for a user.
    """

    database: Database
    gateway: Gateway
    environment: Environment
    subscription_id: str
    user: Caller | None
    trusted: bool


async def authorize(target: Target, operation: Operation, fields: Mapping[str, Any]) -> None:
    """Make sure that the user may change the subscription.

    Args:
        fields: what the request asks for, for the policies.

    Raises:
        SubscriptionNotFound: there is none that the user may see.
        Forbidden: the policies of the table don't let them change it, row-level security is off, or
            a privilege is missing.
        DatabaseRefused: a policy of the app cannot be evaluated.
        DatabaseBusy: another transaction locks the row for too long.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    user = target.user
    if user is None:
        return
    key = (target.environment, target.subscription_id)
    request = orjson.dumps({**fields, "operation": operation}).decode()
    async with as_user(target.database, user.database_role, user.claims, TABLE) as db:
        await db.execute(_TELL, request)
        seen = await db.fetchval(_SEEN, *key)
        may = seen and await may_change(db, TABLE, "subscription_id", *key)
    if not seen:
        raise not_found(target)
    if not may:
        raise Forbidden(
            f"The RLS policies of {TABLE} do not allow this user to {operation} the subscription "
            f"{target.subscription_id}."
            if operation != "preview"
            else f"The RLS policies of {TABLE} do not allow this user to preview changes of the "
            f"subscription {target.subscription_id}.",
            next_actions="Sign in as a user who may change it, or write an UPDATE policy on "
            f"{TABLE} that allows it.",
        )


def not_found(target: Target) -> SubscriptionNotFound:
    """There is no such subscription, at least not for the caller."""
    return SubscriptionNotFound(
        f"There is no subscription {target.subscription_id} in the {target.environment} "
        "environment.",
        next_actions="Check the id and the environment."
        if target.user is None
        else f"If it exists, a SELECT policy on {TABLE} must let this user see it.",
    )


def require_terms(target: Target, order: ChangeSubscription) -> None:
    """Make sure that a user's browser does not choose what its change costs.

    Raises:
        Forbidden: it asks for a change without prorations.
    """
    if not target.trusted and order.proration_behavior == "none":
        raise Forbidden(
            "A user's token cannot choose prorationBehavior none: the rest of the period would be "
            "free.",
            next_actions="Use create_prorations or always_invoice, or send the request from your "
            "backend with an admin key and actAs.",
        )


def require_recent(
    target: Target, order: ChangeSubscription, subscription: StripeObject, now: int
) -> None:
    """The same for the time at which prorations are calculated. Subscriptions on a test clock have
    times of their own, and no money.

    Args:
        now: epoch seconds of Stripe's clock.

    Raises:
        InvalidInput: it is not the time of a recent preview.
    """
    at = order.proration_date
    if target.trusted or at is None or subscription.get("test_clock") is not None:
        return
    if not now - _PREVIEW_LASTS <= at.timestamp() <= now + _A_MOMENT:
        raise InvalidInput(
            "prorationDate: is not of a preview of the last hour",
            next_actions="Request a new preview, and send its prorationDate.",
        )
