"""What a checkout gets beyond its prices: the options of the request and of its offer, and what its
subject may have only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from billhook.access.auth import Caller
from billhook.checkout.at_stripe import Terms
from billhook.checkout.line_items import Item
from billhook.checkout.offers import redeem
from billhook.checkout.one_subscription import claim_subscription, conflict
from billhook.checkout.rows import Claim
from billhook.checkout.sole import Purpose
from billhook.checkout.trials import claim_trial, record
from billhook.models import CreateCheckoutSession as Order
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway


@dataclass(frozen=True, slots=True)
class Settled:
    """The terms of a checkout.

    Attributes:
        held: for which purposes the checkout must be its subject's one when it is opened.
        offer_id: the offer of which it must have a redemption then.
    """

    terms: Terms
    held: tuple[Purpose, ...] = ()
    offer_id: UUID | None = None


async def settle_terms(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    claim: Claim,
    items: Sequence[Item],
    caller: Caller,
    now: datetime,
) -> Settled:
    """Decide the terms of a checkout, in short transactions before Stripe creates the session.

    Raises:
        InvalidInput: the offer does not exist, is over or does not fit the order.
        CheckoutAlreadyExists: the subject has a subscription, or an open checkout for one.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
    """
    options, offer_id = order.options, None
    if order.offer is not None:
        redeemed = await redeem(database, environment, order, items, claim.row_id, now)
        options, offer_id = redeemed.options, redeemed.offer_id
    if options is None:
        return Settled(Terms())
    held: list[Purpose] = []
    if options.one_subscription:
        await require_one(database, gateway, environment, order, claim, caller)
        held.append("subscription")
    with_trial = options.has_trial
    if with_trial and options.trial_once_per_subject and order.subject is not None:
        with_trial = await claim_trial(database, gateway, environment, order.subject, claim.row_id)
        if with_trial:
            held.append("trial")
    elif with_trial:
        async with database.connection() as connection:
            await record(connection, claim.row_id, granted=True)
    return Settled(Terms(options, with_trial), tuple(held), offer_id)


async def require_one(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    claim: Claim,
    caller: Caller,
) -> None:
    """Make sure that the subject has neither a subscription nor another open checkout for one.

    Raises:
        CheckoutAlreadyExists: it has; the error says which.
    """
    assert order.subject is not None
    existing = await claim_subscription(database, gateway, environment, order.subject, claim.row_id)
    if existing is not None:
        raise await conflict(database, gateway, environment, order, caller, existing)


def asks_for_one(row: asyncpg.Record, order: Order) -> bool:
    """Whether an earlier checkout was to be its subject's only one."""
    decided = row["offer_options"] or {}
    asked = order.options.one_subscription if order.options else False
    return bool(decided.get("oneSubscription", asked))
