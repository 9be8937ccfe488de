"""Checkout: a row as the caller, a session at Stripe, the result in the row (contract sections
3.1 and 5).

Three short steps, and no connection or lock is held while Stripe works. Concurrent
requests with one idempotency key are merged by Stripe's idempotency; a checkout that a crash
interrupted is completed by the retry.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import asyncpg

from billhook.access.auth import Caller
from billhook.checkout.at_stripe import create_at_stripe, is_over
from billhook.checkout.line_items import items_of
from billhook.checkout.one_subscription import superseded
from billhook.checkout.rows import Claim, claim_row, expired, failed, lost, opened
from billhook.checkout.sole import discard, session_at_stripe
from billhook.checkout.terms import asks_for_one, require_one, settle_terms
from billhook.errors import BillhookError, CheckoutAlreadyExists
from billhook.models import CreateCheckoutSession as Order
from billhook.models import CreatedCheckoutSession
from billhook.postgres import Database
from billhook.postgres.refusals import unfinished
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject


@dataclass(frozen=True, slots=True)
class _Retry:
    """Creation must be tried again; `replaced` is the expired session to replace, if any."""

    replaced: str | None


async def create_checkout_session(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    caller: Caller,
    now: datetime,
) -> CreatedCheckoutSession:
    """Create a checkout, or return the one that already has the idempotency key.

    Raises:
        Forbidden: the policies of the table reject the caller's row.
        CheckoutAlreadyExists: the subject's key was used for something else, or for a row that the
            caller may not see. Or the subject has a subscription or an open checkout for one, and
            may only have one.
        DatabaseRefused, DatabaseDuplicate: a check, trigger or key of the app rejects the row.
        InvalidInput: no active price has a lookup key of the order, or its offer does not exist, is
            over or does not fit; a `failed` row with the reason remains.
        PaymentConfigInvalid, PaymentMethodDeclined, RateLimited, UpstreamFailure: from Stripe; a
            `failed` row with the reason remains.
        DatabaseUnavailable: PostgreSQL is unavailable; the same request may be sent again.
    """
    claim = await claim_row(database, environment, order, caller)
    with unfinished("checkout"):
        return await _finish(database, gateway, environment, order, claim, caller, now)


async def _finish(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    claim: Claim,
    caller: Caller,
    now: datetime,
) -> CreatedCheckoutSession:
    """The steps after the row is inserted."""
    replaced: str | None = None
    if (earlier := claim.earlier) is not None:
        existing = await _existing_session(database, gateway, environment, earlier, now)
        if isinstance(existing, dict):  # newer than the row
            row = await opened(database, environment, order, claim.row_id, existing, None)
            assert row is not None
            existing = row
        if isinstance(existing, asyncpg.Record):
            if existing["status"] == "open" and asks_for_one(existing, order):
                await require_one(database, gateway, environment, order, claim, caller)
            return _session(existing)
        replaced = existing.replaced
    try:
        items = items_of(environment, claim.line_items)
        _require_same_prices(claim)
        settled = await settle_terms(
            database, gateway, environment, order, claim, items, caller, now
        )
        created, replaced = await create_at_stripe(
            database,
            gateway,
            environment,
            order,
            items,
            claim.row_id,
            now,
            terms=settled.terms,
            replaced=replaced,
            repeated=earlier is not None,
        )
    except BillhookError as error:
        row = await failed(database, claim.row_id, error)
        if row is not None and row["status"] == "open" and _can_be_paid(row):
            return _session(row)  # a concurrent request with the same key succeeded
        raise
    row = await opened(
        database,
        environment,
        order,
        claim.row_id,
        created,
        replaced,
        settled.held,
        settled.offer_id,
    )
    if row is None:
        late = superseded(order, sole=bool(settled.held))
        if await lost(database, claim.row_id, created, late):
            await discard(gateway, environment, str(created["id"]))
        raise late
    if row["checkout_session_id"] != created["id"]:
        # A request with the same key reached Stripe under another idempotency key, and has already
        # opened the row.
        await discard(gateway, environment, str(created["id"]))
    if row["status"] == "expired":
        raise CheckoutAlreadyExists(
            "The checkout's session has expired while the checkout was being created.",
            next_actions="Send the request again: it creates another session.",
        )
    return _session(row)


def _require_same_prices(claim: Claim) -> None:
    """
    Raises:
        CheckoutAlreadyExists: the policies have seen other prices than would be sold.
    """
    if claim.has_other_prices:
        raise CheckoutAlreadyExists(
            "A lookup key had another price, or none, when the idempotency key was first used.",
            next_actions="Send the request again with a new idempotencyKey.",
        )


async def _existing_session(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    row: asyncpg.Record,
    now: datetime,
) -> asyncpg.Record | StripeObject | _Retry:
    """The result of an earlier checkout: its row if that answers the request, Stripe's session if
    that is newer, or a retry."""
    session_id: str | None = row["checkout_session_id"]
    if row["status"] == "completed":
        return row
    if row["status"] != "open":
        return _Retry(session_id)
    if session_id is None or not _can_be_paid(row):
        return _Retry(None)
    if not is_over(row["expires_at"], row["created_at"], now):
        return row
    # Its time is up, but it may have been paid at the last moment with the webhook still to come:
    # only Stripe can say whether a new one would charge twice.
    session = await session_at_stripe(gateway, environment, session_id)
    if session is not None and session.get("status") != "expired":
        return session
    await expired(database, row["id"], session_id)
    return _Retry(session_id)


def _can_be_paid(row: asyncpg.Record) -> bool:
    """Whether the buyer can get to the session: by its URL, or on the app's own page."""
    return bool(row["url"] or row["client_secret"])


def _session(row: asyncpg.Record) -> CreatedCheckoutSession:
    found = {name: row[name] for name in CreatedCheckoutSession.model_fields}
    if row["status"] != "open":
        found["client_secret"] = None
    return CreatedCheckoutSession(**found)
