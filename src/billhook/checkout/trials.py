"""Trials that a subject gets once (docs/how-to/offers.md#one-trial-per-subject).

A subject has had its trial if it has a subscription with one, wherever that was created, or has
completed a checkout with one. An open checkout with a trial is expired at Stripe before another one
gets it: Stripe decides whether it was paid before.
"""

from __future__ import annotations

from uuid import UUID

import asyncpg

from billhook.checkout.sole import deciding, expire
from billhook.errors import CheckoutAlreadyExists
from billhook.models import BillingSubject
from billhook.postgres import Connection, Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

_ATTEMPTS = 5

_HAD_ONE = """
SELECT EXISTS (
    SELECT FROM payments.stripe_subscriptions
    WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND trial_start IS NOT NULL
) OR EXISTS (
    SELECT FROM payments.stripe_checkout_sessions
    WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND status = 'completed'
      AND trial_granted
)
"""
_OTHER_OPEN_ONES = """
SELECT id, checkout_session_id FROM payments.stripe_checkout_sessions
WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND status = 'open'
  AND trial_granted AND id <> $4 AND checkout_session_id IS NOT NULL
"""
_RECORD = "UPDATE payments.stripe_checkout_sessions SET trial_granted = $2 WHERE id = $1"
# Its event says the same, and may come later.
_EXPIRED = """
UPDATE payments.stripe_checkout_sessions SET status = 'expired', url = NULL
WHERE id = $1 AND status = 'open' AND checkout_session_id = $2
"""


async def claim_trial(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    subject: BillingSubject,
    row_id: UUID,
) -> bool:
    """Whether the checkout of this row may have the subject's trial.

    Raises:
        CheckoutAlreadyExists: others take it at the same time, again and again.
        PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
    """
    of_subject = (environment, subject.type, subject.id)
    for _ in range(_ATTEMPTS):
        others: list[asyncpg.Record] = []
        async with deciding(database, environment, subject, "trial", row_id) as decision:
            if await decision.connection.fetchval(_HAD_ONE, *of_subject):
                await record(decision.connection, row_id, granted=False)
                return False
            others = await decision.connection.fetch(_OTHER_OPEN_ONES, *of_subject, row_id)
            if not others:
                await decision.hold(row_id)
                await record(decision.connection, row_id, granted=True)
                return True
        for other in others:
            if not await expire(gateway, environment, other["checkout_session_id"]):
                await database.execute(_RECORD, row_id, False)
                return False  # it was paid: its event is on its way
            await database.execute(_EXPIRED, other["id"], other["checkout_session_id"])
    raise CheckoutAlreadyExists(
        f"Other checkouts with a trial are being created for the {subject.type} {subject.id}.",
        next_actions="Send the request again in a few seconds.",
    )


async def record(connection: Connection, row_id: UUID, *, granted: bool) -> None:
    """Record whether the checkout of a row has a trial."""
    await connection.execute(_RECORD, row_id, granted)
