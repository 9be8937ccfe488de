"""One subscription per subject: what a second checkout finds
(docs/how-to/prevent-double-subscriptions.md)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

import asyncpg

from billhook.access.auth import Caller
from billhook.checkout.mappings import customer_of
from billhook.checkout.portal import create_portal_session
from billhook.checkout.rows import TABLE
from billhook.checkout.sole import (
    deciding,
    session_at_stripe,
    subscription_at_stripe,
)
from billhook.errors import BillhookError, CheckoutAlreadyExists
from billhook.kinds.reading import id_of
from billhook.models import BillingSubject, CreateCustomerPortalSession, ExistingPurchase
from billhook.models import CreateCheckoutSession as Order
from billhook.postgres import Database
from billhook.postgres.refusals import acting_as_caller
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

_ATTEMPTS = 5
_ENDED = ("canceled", "incomplete_expired")

# The subject's subscription, and its checkouts: open ones, and paid ones whose subscription has not
# been mirrored yet. One statement, so one snapshot: between two, the events of a payment would turn
# an open checkout that is not read yet into a subscription that is no longer read.
_IN_THE_WAY = """
(SELECT NULL::uuid AS id, NULL AS checkout_session_id, s.subscription_id
 FROM payments.stripe_subscriptions s
 WHERE s.environment = $1 AND s.subject_type = $2 AND s.subject_id = $3
   AND s.status <> ALL ($6::text[])
 ORDER BY s.created_at LIMIT 1)
UNION ALL
(SELECT c.id, c.checkout_session_id, c.subscription_id
 FROM payments.stripe_checkout_sessions c
 WHERE c.environment = $1 AND c.subject_type = $2 AND c.subject_id = $3 AND c.id <> $4
   AND c.mode = 'subscription' AND c.checkout_session_id <> ALL ($5::text[])
   AND (c.status = 'open' OR c.status = 'completed' AND NOT EXISTS (
         SELECT FROM payments.stripe_subscriptions s
         WHERE s.environment = c.environment AND s.subscription_id = c.subscription_id))
 ORDER BY c.created_at DESC LIMIT 10)
"""
_AS_CALLER = f"""
SELECT url, raw ->> 'client_secret'::text AS client_secret FROM {TABLE}
WHERE id = $1 AND status = 'open'
"""  # noqa: S608


@dataclass(frozen=True, slots=True)
class Existing:
    """What is in the way of a checkout.

    Attributes:
        subscription_id: a subscription, if Stripe has created it.
        row_id: the row of a checkout, if that is known.
        session_id: its session.
    """

    subscription_id: str | None
    row_id: UUID | None = None
    session_id: str | None = None


async def claim_subscription(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    subject: BillingSubject,
    row_id: UUID,
) -> Existing | None:
    """Make the checkout of this row the one that may give the subject a subscription.

    Returns:
        None, or what is in its way.

    Raises:
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
    """
    of_subject = (environment, subject.type, subject.id)
    over: set[str] = set()  # sessions that are over, as Stripe says; their row may get another one
    for _ in range(_ATTEMPTS):
        async with deciding(database, environment, subject, "subscription", row_id) as decision:
            found = await decision.connection.fetch(
                _IN_THE_WAY, *of_subject, row_id, [*over], _ENDED
            )
            if not found:
                await decision.hold(row_id)
                return None
        for each in found:
            if each["id"] is None:
                return Existing(each["subscription_id"])
        existing = await _first_in_the_way(gateway, environment, found)
        if existing is not None:
            return existing
        over |= {str(each["checkout_session_id"]) for each in found}
    return Existing(None)


async def _first_in_the_way(
    gateway: Gateway, environment: Environment, others: Sequence[asyncpg.Record]
) -> Existing | None:
    """The first checkout that is not over. Stripe is asked: an event may be on its way."""
    for other in others:
        session_id = str(other["checkout_session_id"])
        subscription_id: str | None = other["subscription_id"]
        if subscription_id is None:
            session = await session_at_stripe(gateway, environment, session_id)
            if session is None or session.get("status") == "expired":
                continue
            subscription_id = id_of(session.get("subscription"))
            if subscription_id is None:
                return Existing(None, other["id"], session_id)
        found = await subscription_at_stripe(gateway, environment, subscription_id)
        if found is not None and found.get("status") not in _ENDED:
            return Existing(subscription_id, other["id"], session_id)
    return None


async def conflict(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    caller: Caller,
    existing: Existing,
) -> CheckoutAlreadyExists:
    """The response to a second checkout. It has the URL of an open checkout if the caller may read
    its row, and a link to the portal if the caller may open one."""
    subject = order.subject
    assert subject is not None
    whose = f"The {subject.type} {subject.id}"
    found = ExistingPurchase(
        subscription_id=existing.subscription_id, checkout_session_id=existing.session_id
    )
    if existing.subscription_id is None:
        if existing.row_id is not None:
            row = await _as_caller(database, caller, existing.row_id)
            if row is not None:
                found.url, found.client_secret = row["url"], row["client_secret"]
        message = f"{whose} has an open checkout for a subscription."
        todo = "Continue with the open checkout, or let it expire. A request with its "
        todo += "idempotencyKey returns it."
    else:
        portal = await _portal_url(database, gateway, environment, order, caller)
        found.portal_url = portal
        message = f"{whose} has the subscription {existing.subscription_id}."
        todo = "Send the user to the customer portal to change it."
    return CheckoutAlreadyExists(message, next_actions=todo, existing=found.known())


async def _as_caller(database: Database, caller: Caller, row_id: UUID) -> asyncpg.Record | None:
    role, claims = caller.database_role, caller.claims
    with suppress(BillhookError):  # the caller may not read the table at all
        async with acting_as_caller(database, role, claims, TABLE) as connection:
            return await connection.fetchrow(_AS_CALLER, row_id)
    return None


async def _portal_url(
    database: Database, gateway: Gateway, environment: Environment, order: Order, caller: Caller
) -> str | None:
    subject = order.subject
    if subject is None or caller.kind == "anonymous":
        return None
    if await customer_of(database, environment, subject) is None:
        return None
    request: dict[str, object] = {"subject": subject}
    if order.cancel_url is not None:
        request["returnUrl"] = order.cancel_url
    with suppress(BillhookError):  # the caller may not open the portal, or it is not set up
        session = await create_portal_session(
            database,
            gateway,
            environment,
            CreateCustomerPortalSession.model_validate(request),
            caller,
        )
        return session.url
    return None


def superseded(order: Order, *, sole: bool) -> CheckoutAlreadyExists:
    """The response to a checkout whose place another one has taken while it was being created.

    Args:
        sole: whether it was to be its subject's only one. The place may also be its redemption.
    """
    places = [f"for the {order.subject.type} {order.subject.id}"] if sole and order.subject else []
    places += [f"with the offer “{order.offer}”"] if order.offer else []
    whose = f" {' or '.join(places)}" if places else ""
    return CheckoutAlreadyExists(
        f"Another checkout{whose} was created at the same time.",
        next_actions="Send the request again in a few seconds.",
    )
