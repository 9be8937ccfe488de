"""The one checkout of a subject that may give it its subscription, or its trial
(docs/decisions/0020-one-checkout-of-a-subject.md).

That is decided under a lock of one row of `billhook.sole_checkouts`, in short transactions.
The row itself blocks nobody: what blocks is a session that a buyer can pay, or a subscription. So
a checkout that was interrupted is in nobody's way. It must still be the subject's one checkout when
Stripe's session is written to its row, because only then does the buyer get the session.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Literal
from uuid import UUID

from billhook.errors import BillhookError
from billhook.models import BillingSubject
from billhook.paths import encoded
from billhook.postgres import Connection, Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject, refusal_of

Purpose = Literal["subscription", "trial"]

_ADD = """
INSERT INTO billhook.sole_checkouts (environment, subject_type, subject_id, purpose, session_id)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING
"""
_LOCK = """
SELECT FROM billhook.sole_checkouts
WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND purpose = $4 FOR UPDATE
"""
_HOLD = """
UPDATE billhook.sole_checkouts SET session_id = $5
WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND purpose = $4
"""


class Decision:
    """A transaction that decides about one purpose of a subject. What it reads, no other one
    changes before it ends: each statement sees what the transactions before it have committed."""

    def __init__(self, connection: Connection, key: tuple[str, str, str, Purpose]) -> None:
        self.connection = connection
        self._key = key

    async def hold(self, row_id: UUID) -> None:
        """Make this row the subject's one checkout. The previous one, if it is still being
        created, finds out when it is done."""
        await self.connection.execute(_HOLD, *self._key, row_id)


@asynccontextmanager
async def deciding(
    database: Database,
    environment: Environment,
    subject: BillingSubject,
    purpose: Purpose,
    row_id: UUID,
) -> AsyncIterator[Decision]:
    """A transaction that runs when no other one decides about the same purpose of the subject."""
    key = (environment, subject.type, subject.id, purpose)
    async with database.as_service() as connection:
        await connection.execute(_ADD, *key, row_id)
        await connection.execute(_LOCK, *key)
        yield Decision(connection, key)


async def session_at_stripe(
    gateway: Gateway, environment: Environment, session_id: str
) -> StripeObject | None:
    """A session as Stripe has it now; None if Stripe does not have it."""
    return await _found(gateway, environment, f"/v1/checkout/sessions/{encoded(session_id)}")


async def subscription_at_stripe(
    gateway: Gateway, environment: Environment, subscription_id: str
) -> StripeObject | None:
    """A subscription as Stripe has it now; None if Stripe does not have it."""
    return await _found(gateway, environment, f"/v1/subscriptions/{encoded(subscription_id)}")


async def _found(gateway: Gateway, environment: Environment, path: str) -> StripeObject | None:
    try:
        return (await gateway.get(environment, path)).data
    except BillhookError as error:
        refusal = refusal_of(error)
        if refusal is not None and refusal.code == "resource_missing":
            return None
        raise


async def expire(gateway: Gateway, environment: Environment, session_id: str) -> bool:
    """Expire a session, so that nobody can pay it any more.

    Returns:
        False if it is complete: it was paid before.
    """
    path = f"/v1/checkout/sessions/{encoded(session_id)}"
    try:
        await gateway.post(environment, f"{path}/expire", {})
    except BillhookError as error:
        if refusal_of(error) is None:
            raise
        session = await session_at_stripe(gateway, environment, session_id)
        if session is None or session.get("status") == "expired":
            return True
        if session.get("status") != "complete":
            raise
        return False
    return True


async def discard(gateway: Gateway, environment: Environment, session_id: str) -> None:
    """Expire a session that no buyer knows. If that fails, it expires by itself."""
    with suppress(BillhookError):
        await expire(gateway, environment, session_id)
