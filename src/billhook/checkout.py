"""Checkout: a row as the caller, a session at Stripe, the outcome in the row (contract sections
3.1 and 5, design section 5).

Three short steps, and no connection or lock is held while Stripe works (design I2). What may run
at once (two requests with one idempotency key) is made one by Stripe's own idempotency; what a
crash leaves half-done is finished by the retry.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import orjson

from billhook.auth import Caller
from billhook.db import Database
from billhook.db.refusals import acting_as_caller, writing_outcome
from billhook.errors import (
    BillhookError,
    CheckoutAlreadyExists,
    DatabaseDuplicate,
    DatabaseUnavailable,
)
from billhook.ledger import CHECKOUT_ENDED
from billhook.mappings import customer_of
from billhook.models import RESERVED_METADATA, CheckoutSession
from billhook.models import CreateCheckoutSession as Order
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject, refusal_of

TABLE = "payments.stripe_checkout_sessions"
_SESSION_LIFE = timedelta(hours=24)  # stripe-facts 8

# No arbiter and no RETURNING: both would ask for a SELECT policy where INSERT alone is meant.
_INSERT = """
INSERT INTO payments.stripe_checkout_sessions (
    id, environment, mode, status, subject_type, subject_id, customer_email, line_items,
    success_url, cancel_url, idempotency_key, request_hash, metadata
)
VALUES ($1, $2, $3, 'initialized', $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT DO NOTHING
"""
_FIND = """
SELECT id, environment, mode, status, payment_status, subject_type, subject_id, customer_email,
    checkout_session_id, customer_id, payment_intent_id, subscription_id, url, last_error,
    created_at, updated_at,
    request_hash, line_items, success_url, cancel_url, metadata, raw -> 'expires_at' AS expires_at
FROM payments.stripe_checkout_sessions
WHERE environment = $1 AND idempotency_key = $2
"""
# A webhook may have been here first. What it made final stays; `$11` is the session that this one
# replaces, the only expired one that may open again.
_OPENED = """
WITH ours AS (
    SELECT id, status = 'completed'
        OR (status = 'expired' AND checkout_session_id IS DISTINCT FROM $11) AS final,
        status = 'completed' OR checkout_session_id IS DISTINCT FROM $11 AS stays
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
    metadata = $10,
    last_error = NULL,
    -- Which event the row shows belongs to its session: another session begins anew.
    provider_event_at = CASE WHEN stays THEN provider_event_at END,
    provider_event_rank = CASE WHEN stays THEN provider_event_rank END,
    provider_event_id = CASE WHEN stays THEN provider_event_id END
FROM ours WHERE theirs.id = ours.id
RETURNING theirs.id, environment, mode, status, payment_status, subject_type, subject_id,
    customer_email, checkout_session_id, customer_id, payment_intent_id, subscription_id, url,
    last_error, created_at, updated_at
"""
# Only where nobody else came through meanwhile: another request with the same key, or a webhook.
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
    """Our row, and what was known of it when its idempotency key had been used before."""

    row_id: UUID
    earlier: asyncpg.Record | None


@dataclass(frozen=True, slots=True)
class _Again:
    """Creation is to be tried again; `replaced` is the expired session in whose place, if any."""

    replaced: str | None


async def create_checkout_session(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    caller: Caller,
    now: datetime,
) -> CheckoutSession:
    """Open a checkout, or return the one that the idempotency key already stands for.

    Raises:
        Forbidden: the policies of the table refuse the caller's row.
        CheckoutAlreadyExists: the key was used for something else, or for a row that the caller
            may not see.
        DatabaseRefused, DatabaseDuplicate: a check, trigger or key of the app's refuses the row.
        PaymentConfigInvalid, PaymentMethodDeclined, RateLimited, UpstreamFailure: Stripe; a
            `failed` row with the reason stays behind.
        DatabaseUnavailable: PostgreSQL is away; the same request may be sent again.
    """
    claim = await _claim_row(database, environment, order, caller)
    replaced: str | None = None
    if claim.earlier is not None:
        standing = await _standing(gateway, environment, claim.earlier, now)
        if isinstance(standing, asyncpg.Record):
            return _session(standing)
        if isinstance(standing, dict):
            return await _opened(database, claim.row_id, order, standing, None)
        replaced = standing.replaced
    try:
        created, replaced = await _create_at_stripe(
            database, gateway, environment, order, claim.row_id, replaced, now
        )
    except BillhookError as error:
        row = await _failed(database, claim.row_id, error)
        if row is not None and row["status"] == "open" and row["url"]:
            return _session(row)  # a request with the same key came through
        raise
    return await _opened(database, claim.row_id, order, created, replaced)


async def _claim_row(
    database: Database, environment: Environment, order: Order, caller: Caller
) -> _Claim:
    """Insert the row as the caller or, when its key was used before, find it as the caller."""
    row_id = uuid4()
    fingerprint = request_hash(_canonical(order))
    async with acting_as_caller(database, caller.database_role, caller.claims, TABLE) as db:
        status = await db.execute(
            _INSERT,
            row_id,
            environment,
            order.mode,
            order.subject.type if order.subject else None,
            order.subject.id if order.subject else None,
            order.customer_email,
            [item.model_dump(by_alias=True) for item in order.line_items],
            order.success_url,
            order.cancel_url,
            order.idempotency_key,
            fingerprint,
            _metadata(order),
        )
        if status == "INSERT 0 1":
            return _Claim(row_id, None)
        if order.idempotency_key is None:
            raise DatabaseDuplicate(f"A unique key of {TABLE} refuses this checkout.")
        row = await db.fetchrow(_FIND, environment, order.idempotency_key)
    if row is None:
        raise CheckoutAlreadyExists(
            "The idempotency key was used before, by a checkout that this caller may not read.",
            next_actions="Use a new idempotencyKey, or write a SELECT policy for whoever shall be "
            "able to repeat a checkout.",
        )
    # A row of InsForge's has its own hash, or none: then its columns are compared.
    if fingerprint not in (row["request_hash"], request_hash(_canonical_of(row))):
        raise CheckoutAlreadyExists(
            "The idempotency key was already used for another checkout.",
            next_actions="Use a new idempotencyKey for each purchase, and the same one only to "
            "repeat a request unchanged.",
        )
    return _Claim(row["id"], row)


async def _standing(
    gateway: Gateway, environment: Environment, row: asyncpg.Record, now: datetime
) -> asyncpg.Record | StripeObject | _Again:
    """Where an earlier checkout stands: the row when it answers the request, Stripe's session when
    that knows better, or that creation is to be tried again."""
    session_id: str | None = row["checkout_session_id"]
    if row["status"] == "completed":
        return row
    if row["status"] == "expired":
        return _Again(session_id)
    if row["status"] != "open" or session_id is None or row["url"] is None:
        return _Again(None)
    if not _is_over(row["expires_at"], row["created_at"], now):
        return row
    # Its time is up, but it may have been paid at the last moment with the webhook still to come:
    # only Stripe can say whether a new one would charge twice.
    try:
        session = (await gateway.get(environment, f"/v1/checkout/sessions/{session_id}")).data
    except BillhookError as error:
        refusal = refusal_of(error)
        if refusal is not None and refusal.code == "resource_missing":
            return _Again(session_id)
        raise
    return _Again(session_id) if session.get("status") == "expired" else session


async def _create_at_stripe(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: Order,
    row_id: UUID,
    replaced: str | None,
    now: datetime,
) -> tuple[StripeObject, str | None]:
    """The new session, and the id of the expired one that it replaces, if any."""
    key = await gateway.key(environment)
    customer = await customer_of(database, environment, order.subject)
    params = stripe_params(order, row_id, customer)
    for _ in range(2):
        answer = await gateway.post(
            environment,
            "/v1/checkout/sessions",
            params,
            idempotency_key=stripe_idempotency_key(environment, order, row_id, replaced),
            key=key,
        )
        created = answer.data
        if not _is_over(created.get("expires_at"), None, now):
            break
        # Stripe repeated its answer of a day ago (stripe-facts 37): that session is gone.
        replaced = str(created["id"])
    return created, replaced


async def _opened(
    database: Database,
    row_id: UUID,
    order: Order,
    session: StripeObject,
    replaced: str | None,
) -> CheckoutSession:
    """Note what Stripe answered; a row that a webhook finished meanwhile stays finished."""
    async with writing_outcome(database, TABLE) as connection:
        row = await connection.fetchrow(
            _OPENED,
            row_id,
            {"complete": "completed", "expired": "expired"}.get(session.get("status", ""), "open"),
            session.get("payment_status"),
            session["id"],
            _id_of(session.get("customer")),
            _id_of(session.get("payment_intent")),
            _id_of(session.get("subscription")),
            session.get("url"),
            session,
            _metadata(order, row_id),
            replaced,
        )
    if row is None:
        raise BillhookError(f"The row {row_id} of {TABLE} is gone: somebody deleted it.")
    if row["status"] != "open":
        database.announce(CHECKOUT_ENDED, str(row_id))
    return _session(row)


async def _failed(database: Database, row_id: UUID, error: BillhookError) -> asyncpg.Record | None:
    # What went wrong first is what the caller must hear; the retry heals a row left `initialized`.
    with suppress(DatabaseUnavailable):
        async with database.connection() as connection:
            row = await connection.fetchrow(_FAILED, row_id, error.message)
        database.announce(CHECKOUT_ENDED, str(row_id))
        return row
    return None


def stripe_params(order: Order, row_id: UUID, customer: str | None) -> dict[str, Any]:
    """What is sent to Stripe (contract section 5, "Checkout")."""
    metadata = _metadata(order, row_id)
    params: dict[str, Any] = {
        "mode": order.mode,
        "line_items": [
            {"price": item.price_id, "quantity": item.quantity} for item in order.line_items
        ],
        "success_url": order.success_url,
        "cancel_url": order.cancel_url,
        "client_reference_id": str(row_id),
        "metadata": metadata,
    }
    if customer is not None:
        params["customer"] = customer
    elif order.customer_email is not None:
        params["customer_email"] = order.customer_email
    if order.mode == "subscription":
        params["subscription_data"] = {"metadata": metadata}
        return params
    params["payment_intent_data"] = {"metadata": metadata}
    if order.subject is not None and customer is None:
        params["customer_creation"] = "always"
    return params


def stripe_idempotency_key(
    environment: Environment, order: Order, row_id: UUID, replaced: str | None
) -> str:
    """The contract's key; a replacement of an expired session has one of its own, the same for all
    who replace that one, since Stripe would repeat the old answer for a day."""
    ours = order.idempotency_key or str(row_id)
    prefix = f"insforge:{environment}:checkout_session:"
    suffix = f":{sha256(replaced.encode()).hexdigest()[:16]}" if replaced else ""
    # It travels in a header: what a header cannot carry goes as its hash.
    if not (ours.isascii() and ours.isprintable()):
        ours = f"sha256-{sha256(ours.encode()).hexdigest()}"
    return f"{prefix}{ours}{suffix}"  # at most 248 characters; Stripe takes 255


def request_hash(canonical: Mapping[str, Any]) -> str:
    """SHA-256 of a canonical request."""
    return sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _canonical(order: Order) -> dict[str, Any]:
    return {
        "mode": order.mode,
        "lineItems": [item.model_dump(by_alias=True) for item in order.line_items],
        "successUrl": order.success_url,
        "cancelUrl": order.cancel_url,
        "subject": [order.subject.type, order.subject.id] if order.subject else None,
        "customerEmail": order.customer_email,
        "metadata": order.metadata or {},
    }


def _canonical_of(row: asyncpg.Record) -> dict[str, Any]:
    """The request that a row was made for."""
    subject = [row["subject_type"], row["subject_id"]]
    metadata = {k: v for k, v in row["metadata"].items() if not k.startswith(RESERVED_METADATA)}
    return {
        "mode": row["mode"],
        "lineItems": row["line_items"],
        "successUrl": row["success_url"],
        "cancelUrl": row["cancel_url"],
        "subject": None if None in subject else subject,
        "customerEmail": row["customer_email"],
        "metadata": metadata,
    }


def _metadata(order: Order, row_id: UUID | None = None) -> dict[str, str]:
    """The app's metadata and ours: events find their way back to the row and the subject by it."""
    metadata = {**(order.metadata or {}), "insforge_checkout_mode": order.mode}
    if order.subject is not None:
        metadata["insforge_subject_type"] = order.subject.type
        metadata["insforge_subject_id"] = order.subject.id
    if row_id is not None:
        metadata["insforge_checkout_session_id"] = str(row_id)
    return metadata


def _is_over(expires_at: object, created_at: datetime | None, now: datetime) -> bool:
    """Whether a session can no longer be paid, by its `expires_at` (Unix seconds) or its age."""
    if isinstance(expires_at, int):
        return expires_at <= now.timestamp()
    return created_at is not None and created_at + _SESSION_LIFE <= now


def _id_of(value: object) -> str | None:
    """An id that may come expanded as the object itself."""
    if isinstance(value, dict):
        value = value.get("id")
    return value if isinstance(value, str) else None


def _session(row: asyncpg.Record) -> CheckoutSession:
    return CheckoutSession(**{name: row[name] for name in CheckoutSession.model_fields})
