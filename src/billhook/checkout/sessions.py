"""Checkout: a row as the caller, a session at Stripe, the result in the row (contract sections
3.1 and 5).

Three short steps, and no connection or lock is held while Stripe works. Concurrent
requests with one idempotency key are merged by Stripe's idempotency; a checkout that a crash
interrupted is completed by the retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from billhook.access.auth import Caller
from billhook.checkout.at_stripe import create_at_stripe, is_over, metadata_of, scope_of
from billhook.checkout.line_items import as_sent, as_stored, items_of, stored_in
from billhook.errors import (
    BillhookError,
    CheckoutAlreadyExists,
    DatabaseRefused,
    DatabaseUnavailable,
)
from billhook.kinds.reading import id_of
from billhook.models import RESERVED_METADATA, CheckoutSession
from billhook.models import CreateCheckoutSession as Order
from billhook.paths import encoded
from billhook.postgres import Database
from billhook.postgres.refusals import acting_as_caller, unfinished, writing_outcome
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject, refusal_of

TABLE = "payments.stripe_checkout_sessions"
_INSERTED = "INSERT 0 1"

_INSERT = """
INSERT INTO payments.stripe_checkout_sessions (
    id, environment, mode, status, subject_type, subject_id, customer_email, line_items,
    success_url, cancel_url, idempotency_key, request_hash, metadata
)
VALUES ($1, $2, $3, 'initialized', $4, $5, $6, $7, $8, $9, $10, $11, $12)
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
    request_hash, line_items::text, success_url, cancel_url, metadata::text,
    raw -> 'expires_at'::text AS expires_at
FROM payments.stripe_checkout_sessions WHERE {_OF_KEY}
"""  # noqa: S608
_IS_USED = f"""
SELECT EXISTS (SELECT FROM payments.stripe_checkout_sessions WHERE {_OF_KEY})
"""  # noqa: S608
# A webhook may have been here first. What it made final stays; `$10` is the session that this one
# replaces, the only expired one that may open again.
_OPENED = """
WITH ours AS (
    SELECT id, status = 'completed'
        OR (status = 'expired' AND checkout_session_id IS DISTINCT FROM $10) AS final,
        status = 'completed' OR checkout_session_id IS DISTINCT FROM $10 AS stays
    FROM payments.stripe_checkout_sessions WHERE id = $1 FOR UPDATE
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
    last_error, created_at, updated_at
"""
# Only if neither another request with the same key nor a webhook has updated the row meanwhile.
_FAILED = """
UPDATE payments.stripe_checkout_sessions SET
    last_error = CASE WHEN status IN ('initialized', 'failed') THEN $2 ELSE last_error END,
    status = CASE WHEN status = 'initialized' THEN 'failed' ELSE status END
WHERE id = $1
RETURNING id, environment, mode, status, payment_status, subject_type, subject_id,
    customer_email, checkout_session_id, customer_id, payment_intent_id, subscription_id, url,
    last_error, created_at, updated_at
"""


@dataclass(frozen=True, slots=True)
class _Claim:
    """The row, and its previous state if its idempotency key had been used before."""

    row_id: UUID
    line_items: list[dict[str, Any]]
    earlier: asyncpg.Record | None


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
) -> CheckoutSession:
    """Create a checkout, or return the one that already has the idempotency key.

    Raises:
        Forbidden: the policies of the table reject the caller's row.
        CheckoutAlreadyExists: the subject's key was used for something else, or for a row that the
            caller may not see.
        DatabaseRefused, DatabaseDuplicate: a check, trigger or key of the app rejects the row.
        InvalidInput: no active price has a lookup key of the order; a `failed` row with the reason
            remains.
        PaymentConfigInvalid, PaymentMethodDeclined, RateLimited, UpstreamFailure: from Stripe; a
            `failed` row with the reason remains.
        DatabaseUnavailable: PostgreSQL is unavailable; the same request may be sent again.
    """
    claim = await _claim_row(database, environment, order, caller)
    with unfinished("checkout"):
        return await _finish(database, gateway, environment, order, claim, now)


async def _finish(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    claim: _Claim,
    now: datetime,
) -> CheckoutSession:
    """The steps after the row is inserted."""
    replaced: str | None = None
    if claim.earlier is not None:
        existing = await _existing_session(gateway, environment, claim.earlier, now)
        if isinstance(existing, asyncpg.Record):
            return _session(existing)
        if isinstance(existing, dict):
            return await _opened(database, claim.row_id, existing, None)
        replaced = existing.replaced
    try:
        created, replaced = await create_at_stripe(
            database,
            gateway,
            environment,
            order,
            items_of(environment, claim.line_items),
            claim.row_id,
            now,
            replaced=replaced,
            repeated=claim.earlier is not None,
        )
    except BillhookError as error:
        row = await _failed(database, claim.row_id, error)
        if row is not None and row["status"] == "open" and row["url"]:
            return _session(row)  # a concurrent request with the same key succeeded
        raise
    return await _opened(database, claim.row_id, created, replaced)


async def _claim_row(
    database: Database, environment: Environment, order: Order, caller: Caller
) -> _Claim:
    """Insert the row as the caller or, if its key was used before, find it as the caller."""
    row_id = uuid4()
    fingerprint = request_hash(_canonical(order))
    line_items = await as_stored(database, environment, order)
    row = (
        row_id,
        environment,
        order.mode,
        order.subject.type if order.subject else None,
        order.subject.id if order.subject else None,
        order.customer_email,
        line_items,
        order.success_url,
        order.cancel_url,
        order.idempotency_key,
        fingerprint,
        metadata_of(order),
    )
    key = (environment, *scope_of(order), order.idempotency_key)
    as_caller = partial(acting_as_caller, database, caller.database_role, caller.claims, TABLE)
    async with as_caller() as db:
        if await db.execute(_INSERT_UNLESS_THERE, *row) == _INSERTED:
            return _Claim(row_id, line_items, None)
        earlier = await db.fetchrow(_FIND, *key) if order.idempotency_key else None
    if earlier is None:
        if order.idempotency_key:
            await _require_unused(database, key)
        # It was not Billhook's unique key: now PostgreSQL names it.
        async with as_caller() as db:
            if await db.execute(_INSERT, *row) == _INSERTED:
                return _Claim(row_id, line_items, None)
        raise DatabaseRefused(
            f"A trigger on {TABLE} discards this checkout without a reason.",
            next_actions="Return NEW in the trigger, or raise an exception with the reason.",
        )
    # A row of InsForge's has its own hash, or none: then its columns are compared.
    stored = stored_in(earlier["line_items"])
    is_same = fingerprint == earlier["request_hash"] or _canonical_of(earlier) == _canonical(order)
    if stored is None or not is_same:
        raise CheckoutAlreadyExists(
            "The idempotency key was already used for another checkout.",
            next_actions="Use a new idempotencyKey for each purchase, and reuse it only to "
            "repeat an unchanged request.",
        )
    # What the policies have seen: a lookup key may have moved meanwhile.
    return _Claim(earlier["id"], stored, earlier)


async def _require_unused(database: Database, key: tuple[object, ...]) -> None:
    async with database.connection() as connection:
        if await connection.fetchval(_IS_USED, *key):
            raise CheckoutAlreadyExists(
                "The idempotency key was used before, by a checkout that this caller may not read.",
                next_actions="Use a new idempotencyKey, or write a SELECT policy for those who "
                "may repeat a checkout.",
            )


async def _existing_session(
    gateway: Gateway, environment: Environment, row: asyncpg.Record, now: datetime
) -> asyncpg.Record | StripeObject | _Retry:
    """The result of an earlier checkout: its row if that answers the request, Stripe's session if
    that is newer, or a retry."""
    session_id: str | None = row["checkout_session_id"]
    if row["status"] == "completed":
        return row
    if row["status"] == "expired":
        return _Retry(session_id)
    if row["status"] != "open" or session_id is None or row["url"] is None:
        return _Retry(None)
    if not is_over(row["expires_at"], row["created_at"], now):
        return row
    # Its time is up, but it may have been paid at the last moment with the webhook still to come:
    # only Stripe can say whether a new one would charge twice.
    try:
        session = (
            await gateway.get(environment, f"/v1/checkout/sessions/{encoded(session_id)}")
        ).data
    except BillhookError as error:
        refusal = refusal_of(error)
        if refusal is not None and refusal.code == "resource_missing":
            return _Retry(session_id)
        raise
    return _Retry(session_id) if session.get("status") == "expired" else session


async def _opened(
    database: Database,
    row_id: UUID,
    session: StripeObject,
    replaced: str | None,
) -> CheckoutSession:
    """Store Stripe's response; a row that a webhook has completed in the meantime stays."""
    async with writing_outcome(database, TABLE) as connection:
        row = await connection.fetchrow(
            _OPENED,
            row_id,
            {"complete": "completed", "expired": "expired"}.get(session.get("status", ""), "open"),
            session.get("payment_status"),
            session["id"],
            id_of(session.get("customer")),
            id_of(session.get("payment_intent")),
            id_of(session.get("subscription")),
            session.get("url"),
            session,
            replaced,
        )
    if row is None:
        raise BillhookError(f"The row {row_id} of {TABLE} was deleted in the meantime.")
    return _session(row)


async def _failed(database: Database, row_id: UUID, error: BillhookError) -> asyncpg.Record | None:
    # The caller must get the first error; a retry completes a row that stays `initialized`.
    with suppress(DatabaseUnavailable):
        async with database.connection() as connection:
            return await connection.fetchrow(_FAILED, row_id, error.message)
    return None


def request_hash(canonical: Mapping[str, Any]) -> str:
    """SHA-256 of a canonical request."""
    return sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _canonical(order: Order) -> dict[str, Any]:
    return {
        "mode": order.mode,
        "lineItems": as_sent(order),
        "successUrl": order.success_url,
        "cancelUrl": order.cancel_url,
        "subject": [order.subject.type, order.subject.id] if order.subject else None,
        "customerEmail": order.customer_email,
        "metadata": order.metadata or {},
    }


def _canonical_of(row: asyncpg.Record) -> dict[str, Any] | None:
    """The request that a row was made for; None if its JSON is no request's: callers may insert
    rows of their own."""
    try:
        line_items, metadata = orjson.loads(row["line_items"]), orjson.loads(row["metadata"])
    except orjson.JSONDecodeError:  # too deep, or a number too large
        return None
    if not isinstance(metadata, dict):
        return None
    subject = [row["subject_type"], row["subject_id"]]
    return {
        "mode": row["mode"],
        "lineItems": line_items,
        "successUrl": row["success_url"],
        "cancelUrl": row["cancel_url"],
        "subject": None if None in subject else subject,
        "customerEmail": row["customer_email"],
        "metadata": {k: v for k, v in metadata.items() if not k.startswith(RESERVED_METADATA)},
    }


def _session(row: asyncpg.Record) -> CheckoutSession:
    return CheckoutSession(**{name: row[name] for name in CheckoutSession.model_fields})
