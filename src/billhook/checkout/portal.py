"""The customer portal: a row as the caller, a session at Stripe, the result in the row (contract
section 3.1). No connection is held while Stripe works."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from billhook.access.auth import Caller, signed_in
from billhook.checkout import portal_flows
from billhook.checkout.live_reader import LiveReader
from billhook.checkout.mappings import customer_of, is_unknown_customer
from billhook.errors import BillhookError, DatabaseUnavailable, PaymentNotFound
from billhook.mirror.fetching import StripeReader, forget_customer
from billhook.models import CreateCustomerPortalSession, CustomerPortalSession
from billhook.postgres import Database
from billhook.postgres.refusals import acting_as_caller, unfinished, writing_outcome
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject

TABLE = "payments.stripe_customer_portal_sessions"

_INSERT = """
INSERT INTO payments.stripe_customer_portal_sessions (
    id, environment, status, subject_type, subject_id, return_url, configuration_id, flow_data
)
VALUES ($1, $2, 'initialized', $3, $4, $5, $6, $7)
"""
_CREATED = """
UPDATE payments.stripe_customer_portal_sessions
SET status = 'created', customer_id = $2, url = $3, raw = $4, last_error = NULL
WHERE id = $1
RETURNING id, environment, status, subject_type, subject_id, customer_id, return_url,
    configuration_id AS configuration, url, last_error, created_at, updated_at
"""
_FAILED = """
UPDATE payments.stripe_customer_portal_sessions
SET status = 'failed', last_error = $2 WHERE id = $1
"""


async def create_portal_session(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: CreateCustomerPortalSession,
    caller: Caller,
) -> CustomerPortalSession:
    """Create a portal session for a subject that has paid before.

    Raises:
        InvalidCredentials: the caller is anonymous.
        Forbidden: the policies of the table reject the caller's row.
        PaymentNotFound: the subject has no Stripe customer, or no longer; a `failed` row remains.
        SubscriptionNotFound: the subscription of the flow is not that customer's; as before.
        InvalidInput: no price has the lookup key of the flow, or its item is not clear.
        DatabaseRefused, DatabaseDuplicate: a check, trigger or key of the app rejects the row.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe; a `failed` row remains.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    signed_in(caller)
    row_id = uuid4()
    flow = None
    if order.flow_data is not None:
        flow = await portal_flows.as_stored(database, environment, order.flow_data)
    async with acting_as_caller(database, caller.database_role, caller.claims, TABLE) as db:
        await db.execute(
            _INSERT,
            row_id,
            environment,
            order.subject.type,
            order.subject.id,
            order.return_url,
            order.configuration,
            flow,
        )
    with unfinished("portal session"):
        return await _finish(database, gateway, environment, order, row_id, flow)


async def _finish(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: CreateCustomerPortalSession,
    row_id: UUID,
    flow: dict[str, Any] | None,
) -> CustomerPortalSession:
    """The steps after the row is inserted."""
    try:
        customer, session = await _create_at_stripe(
            database, gateway, environment, order, row_id, flow
        )
    except BillhookError as error:
        # The caller must get the first error.
        with suppress(DatabaseUnavailable):
            async with database.connection() as connection:
                await connection.execute(_FAILED, row_id, error.message)
        raise
    async with writing_outcome(database, TABLE) as connection:
        row = await connection.fetchrow(_CREATED, row_id, customer, session.get("url"), session)
    if row is None:
        raise BillhookError(f"The row {row_id} of {TABLE} was deleted in the meantime.")
    return _session(row)


async def _create_at_stripe(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    order: CreateCustomerPortalSession,
    row_id: UUID,
    flow: dict[str, Any] | None,
) -> tuple[str, StripeObject]:
    key = await gateway.key(environment)
    customer = await customer_of(database, environment, order.subject)
    if customer is None:
        raise _no_customer(environment, order)
    params: dict[str, Any] = {"customer": customer}
    if order.return_url is not None:
        params["return_url"] = order.return_url
    if order.configuration is not None:
        params["configuration"] = order.configuration
    if order.flow_data is not None and flow is not None:
        reader = LiveReader(database, gateway, environment, key)
        params["flow_data"] = await portal_flows.at_stripe(reader, customer, order.flow_data, flow)
    try:
        answer = await gateway.post(
            environment,
            "/v1/billing_portal/sessions",
            params,
            idempotency_key=f"insforge:{environment}:customer_portal_session:{row_id}",
            key=key,
        )
    except BillhookError as error:
        if not is_unknown_customer(error):
            raise
        await forget_customer(StripeReader(database, gateway, environment), customer)
        raise _no_customer(environment, order) from error
    return customer, answer.data


def _no_customer(environment: Environment, order: CreateCustomerPortalSession) -> PaymentNotFound:
    return PaymentNotFound(
        f"The {order.subject.type} {order.subject.id} has no Stripe customer in the "
        f"{environment} environment.",
        next_actions="The portal is available after the first purchase for this subject.",
    )


def _session(row: asyncpg.Record) -> CustomerPortalSession:
    return CustomerPortalSession(**dict(row))
