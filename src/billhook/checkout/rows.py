"""The row of a checkout in `payments.stripe_checkout_sessions`: inserted as the caller, completed
by Billhook (contract sections 3.1 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from billhook.access.auth import Caller
from billhook.checkout.at_stripe import metadata_of, scope_of
from billhook.checkout.line_items import as_requested, as_sent, as_stored, stored_in
from billhook.errors import (
    BillhookError,
    CheckoutAlreadyExists,
    DatabaseRefused,
    DatabaseUnavailable,
)
from billhook.kinds.reading import id_of
from billhook.models import RESERVED_METADATA
from billhook.models import CreateCheckoutSession as Order
from billhook.models.wire import request_hash
from billhook.postgres import Database
from billhook.postgres.refusals import acting_as_caller, writing_outcome
from billhook.settings import Environment
from billhook.stripe.gateway import StripeObject

TABLE = "payments.stripe_checkout_sessions"
_INSERTED = "INSERT 0 1"

_INSERT = """
INSERT INTO payments.stripe_checkout_sessions (
    id, environment, mode, status, subject_type, subject_id, customer_email, line_items,
    success_url, cancel_url, idempotency_key, request_hash, metadata, options, offer
)
VALUES ($1, $2, $3, 'initialized', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
"""
# No arbiter and no RETURNING. Both would require a SELECT policy, and an app may allow INSERT only.
_INSERT_UNLESS_THERE = f"{_INSERT} ON CONFLICT DO NOTHING"
_OF_KEY = """
environment = $1 AND coalesce(subject_type, '') = $2 AND coalesce(subject_id, '') = $3
    AND idempotency_key = $4
"""
_FIND = f"""
SELECT id, environment, mode, status, payment_status, subject_type, subject_id, customer_email,
    checkout_session_id, customer_id, payment_intent_id, subscription_id, url, last_error,
    created_at, updated_at,
    line_items::text, success_url, cancel_url, metadata::text, options::text, offer,
    offer_options, trial_granted, raw ->> 'client_secret'::text AS client_secret,
    raw -> 'expires_at'::text AS expires_at
FROM payments.stripe_checkout_sessions WHERE {_OF_KEY}
"""  # noqa: S608
_IS_USED = f"""
SELECT EXISTS (SELECT FROM payments.stripe_checkout_sessions WHERE {_OF_KEY})
"""  # noqa: S608
# A webhook or another request with the same key may have been here first. What a webhook made final
# stays, and so does another session that a buyer may have got; `$10` is the session that this one
# replaces, the only one that may make way for it. The row must be its subject's one checkout for
# each purpose in `$14`: these locks come first, as in billhook.checkout.sole. And it must have a
# redemption of the offer `$15`, unless that is null.
_OPENED = """
WITH held AS (
    SELECT FROM billhook.sole_checkouts
    WHERE environment = $11 AND subject_type = $12 AND subject_id = $13
      AND purpose = ANY ($14::text[]) AND session_id = $1 FOR UPDATE
),
ours AS (
    SELECT id, status = 'completed'
        OR (status = 'expired' AND checkout_session_id IS DISTINCT FROM $10)
        OR (status = 'open' AND checkout_session_id NOT IN ($4, coalesce($10, ''))
            AND (url IS NOT NULL OR raw ->> 'client_secret'::text IS NOT NULL)) AS final,
        status = 'completed' OR checkout_session_id IS DISTINCT FROM $10 AS stays
    FROM payments.stripe_checkout_sessions
    WHERE id = $1
      AND (SELECT pg_catalog.count(*) FROM held) = pg_catalog.cardinality($14::text[])
      AND ($15::uuid IS NULL OR redeemed_offer = $15)
    FOR UPDATE
)
UPDATE payments.stripe_checkout_sessions AS theirs SET
    status = CASE WHEN final THEN status ELSE $2 END,
    payment_status = CASE WHEN final THEN coalesce(payment_status, $3) ELSE $3 END,
    checkout_session_id = CASE WHEN final THEN coalesce(checkout_session_id, $4) ELSE $4 END,
    customer_id = CASE WHEN final THEN coalesce(customer_id, $5) ELSE $5 END,
    payment_intent_id = CASE WHEN final THEN coalesce(payment_intent_id, $6) ELSE $6 END,
    subscription_id = CASE WHEN final THEN coalesce(subscription_id, $7) ELSE $7 END,
    url = CASE WHEN final THEN url ELSE $8 END,
    raw = CASE WHEN final THEN raw ELSE $9 END,
    last_error = NULL,
    -- The event of the row belongs to its session: another session starts without one.
    provider_event_at = CASE WHEN stays THEN provider_event_at END,
    provider_event_rank = CASE WHEN stays THEN provider_event_rank END,
    provider_event_id = CASE WHEN stays THEN provider_event_id END
FROM ours WHERE theirs.id = ours.id
RETURNING theirs.id, environment, mode, status, payment_status, subject_type, subject_id,
    customer_email, checkout_session_id, customer_id, payment_intent_id, subscription_id, url,
    last_error, created_at, updated_at, raw ->> 'client_secret'::text AS client_secret,
    offer_options, trial_granted
"""
# Only if neither another request with the same key nor a webhook has updated the row meanwhile.
_FAILED = """
UPDATE payments.stripe_checkout_sessions SET
    last_error = CASE WHEN status IN ('initialized', 'failed', 'expired') THEN $2
        ELSE last_error END,
    status = CASE WHEN status = 'initialized' THEN 'failed' ELSE status END
WHERE id = $1
RETURNING id, environment, mode, status, payment_status, subject_type, subject_id,
    customer_email, checkout_session_id, customer_id, payment_intent_id, subscription_id, url,
    last_error, created_at, updated_at, raw ->> 'client_secret'::text AS client_secret,
    trial_granted
"""
# Another checkout of the subject has taken its place. The session is not given to anyone. It is
# recorded before it is expired, so that a retry replaces it: Stripe would repeat its response.
_LOST = """
UPDATE payments.stripe_checkout_sessions
SET status = 'expired', checkout_session_id = $2, url = NULL, last_error = $3
WHERE id = $1 AND status IN ('initialized', 'failed', 'expired')
RETURNING id
"""

# Its event says the same, and may come later.
_EXPIRED = """
UPDATE payments.stripe_checkout_sessions SET status = 'expired', url = NULL
WHERE id = $1 AND status = 'open' AND checkout_session_id = $2
"""


@dataclass(frozen=True, slots=True)
class Claim:
    """The row of an order.

    Attributes:
        line_items: with the prices that have the order's lookup keys now.
        earlier: its previous state if its idempotency key had been used before.
        has_other_prices: a lookup key had another price when the row was inserted, or the caller
            who inserted it with SQL of their own says so. The policies have seen that price.
    """

    row_id: UUID
    line_items: list[dict[str, Any]]
    earlier: asyncpg.Record | None = None
    has_other_prices: bool = False


async def claim_row(
    database: Database, environment: Environment, order: Order, caller: Caller
) -> Claim:
    """Insert the row as the caller or, if its key was used before, find it as the caller."""
    row_id = uuid4()
    line_items = await as_stored(database, environment, order)
    row = (
        row_id,
        environment,
        order.mode,
        order.subject.type if order.subject else None,
        order.subject.id if order.subject else None,
        order.customer_email,
        line_items,
        *_urls(order),
        order.idempotency_key,
        request_hash(canonical(order)),
        metadata_of(order),
        options_of(order),
        order.offer,
    )
    key = (environment, *scope_of(order), order.idempotency_key)
    as_caller = partial(acting_as_caller, database, caller.database_role, caller.claims, TABLE)
    async with as_caller() as db:
        if await db.execute(_INSERT_UNLESS_THERE, *row) == _INSERTED:
            return Claim(row_id, line_items)
        earlier = await db.fetchrow(_FIND, *key) if order.idempotency_key else None
    if earlier is None:
        if order.idempotency_key:
            await _require_unused(database, key)
        # It was not Billhook's unique key: now PostgreSQL names it.
        async with as_caller() as db:
            if await db.execute(_INSERT, *row) == _INSERTED:
                return Claim(row_id, line_items)
        raise DatabaseRefused(
            f"A trigger on {TABLE} discards this checkout without a reason.",
            next_actions="Return NEW in the trigger, or raise an exception with the reason.",
        )
    stored = stored_in(earlier["line_items"])
    if stored is None or _asked_for_by(earlier, stored) != _asked_for(order):
        raise CheckoutAlreadyExists(
            "The idempotency key was already used for another checkout.",
            next_actions="Use a new idempotencyKey for each purchase, and reuse it only to "
            "repeat an unchanged request.",
        )
    return Claim(earlier["id"], line_items, earlier, has_other_prices=stored != line_items)


async def _require_unused(database: Database, key: tuple[object, ...]) -> None:
    async with database.connection() as connection:
        if await connection.fetchval(_IS_USED, *key):
            raise CheckoutAlreadyExists(
                "The idempotency key was used before, by a checkout that this caller may not read.",
                next_actions="Use a new idempotencyKey, or write a SELECT policy for those who "
                "may repeat a checkout.",
            )


async def opened(
    database: Database,
    environment: Environment,
    order: Order,
    row_id: UUID,
    session: StripeObject,
    replaced: str | None,
    held: Sequence[str] = (),
    offer_id: UUID | None = None,
) -> asyncpg.Record | None:
    """Store Stripe's response; a row that a webhook has completed in the meantime stays.

    Args:
        replaced: the expired session in whose place it comes.
        held: for which purposes the row must be its subject's one checkout.
        offer_id: the offer of which the row must have a redemption.

    Returns:
        The row. None: another checkout has taken its place, or its redemption.
    """
    status = {"complete": "completed", "expired": "expired"}.get(session.get("status", ""), "open")
    async with writing_outcome(database, TABLE) as connection:
        row = await connection.fetchrow(
            _OPENED,
            row_id,
            status,
            session.get("payment_status"),
            session["id"],
            id_of(session.get("customer")),
            id_of(session.get("payment_intent")),
            id_of(session.get("subscription")),
            session.get("url"),
            session,
            replaced,
            environment,
            *scope_of(order),
            held,
            offer_id,
        )
    if row is None and not held and offer_id is None:
        raise BillhookError(f"The row {row_id} of {TABLE} was deleted in the meantime.")
    return row


async def lost(
    database: Database, row_id: UUID, session: StripeObject, error: BillhookError
) -> bool:
    """Record a session that nobody gets, because another checkout has taken the row's place.

    Returns:
        False if a request with the same key has opened the row meanwhile.
    """
    async with database.connection() as connection:
        found = await connection.fetchval(_LOST, row_id, session["id"], error.message)
    return found is not None


async def expired(database: Database, row_id: UUID, session_id: str) -> None:
    """Record that a session has expired: its link leads nowhere."""
    await database.execute(_EXPIRED, row_id, session_id)


async def failed(database: Database, row_id: UUID, error: BillhookError) -> asyncpg.Record | None:
    """Record why there is no session, unless there is one by now. Returns the row."""
    # The caller must get the first error; a retry completes a row that stays `initialized`.
    with suppress(DatabaseUnavailable):
        async with database.connection() as connection:
            return await connection.fetchrow(_FAILED, row_id, error.message)
    return None


def options_of(order: Order) -> dict[str, Any]:
    """The order's options as the row stores them."""
    return order.options.as_sent() if order.options else {}


def _asked_for(order: Order) -> dict[str, Any]:
    """What the row of an order says."""
    subject_type, subject_id = scope_of(order) if order.subject else (None, None)
    return {
        "mode": order.mode,
        "subject": (subject_type, subject_id),
        "customer_email": order.customer_email,
        "line_items": as_sent(order),
        "urls": _urls(order),
        "metadata": order.metadata or {},
        "options": options_of(order),
        "offer": order.offer,
    }


def _asked_for_by(row: asyncpg.Record, line_items: list[dict[str, Any]]) -> dict[str, Any]:
    """The same, from a row: what the policies have seen. Callers may insert rows with SQL of their
    own, so its hash proves nothing."""
    metadata = _decoded(row["metadata"])
    if isinstance(metadata, dict):
        metadata = {k: v for k, v in metadata.items() if not k.startswith(RESERVED_METADATA)}
    return {
        "mode": row["mode"],
        "subject": (row["subject_type"], row["subject_id"]),
        "customer_email": row["customer_email"],
        "line_items": as_requested(line_items),
        "urls": (row["success_url"], row["cancel_url"]),
        "metadata": metadata,
        "options": _decoded(row["options"]),
        "offer": row["offer"],
    }


def _urls(order: Order) -> tuple[str, str]:
    """Where the buyer returns to, wherever they pay: policies that compare addresses see it."""
    returns_to = (order.options and order.options.return_url) or ""
    return order.success_url or returns_to, order.cancel_url or returns_to


def canonical(order: Order) -> dict[str, Any]:
    """A request without its idempotency key, for its hash."""
    options = options_of(order)
    return {
        "mode": order.mode,
        "lineItems": as_sent(order),
        "successUrl": order.success_url,
        "cancelUrl": order.cancel_url,
        "subject": [order.subject.type, order.subject.id] if order.subject else None,
        "customerEmail": order.customer_email,
        "metadata": order.metadata or {},
        **({"options": options} if options else {}),
        **({"offer": order.offer} if order.offer is not None else {}),
    }


def _decoded(column: str) -> Any:
    try:
        return orjson.loads(column)
    except orjson.JSONDecodeError:  # too deep, or a number too large
        return None
