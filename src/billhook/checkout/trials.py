"""Trials that a subject gets once (docs/how-to/offers.md#one-trial-per-subject).

A subject has had its trial if it has a subscription with one, wherever that was created, or has
completed a checkout with one. An open checkout with a trial is expired at Stripe before another one
gets it: Stripe decides whether it was paid before.
"""

from __future__ import annotations

from uuid import UUID

from billhook.checkout.rows import expired
from billhook.checkout.sole import deciding, expire
from billhook.errors import CheckoutAlreadyExists
from billhook.models import BillingSubject
from billhook.postgres import Connection, Database
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

_ATTEMPTS = 5

# The trials that the subject has had, without a session, and open sessions with one. One statement,
# so one snapshot, as in billhook.checkout.one_subscription.
_OTHERS = """
(SELECT NULL::uuid AS id, NULL::text AS open_session
 FROM payments.stripe_subscriptions
 WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND trial_start IS NOT NULL
 LIMIT 1)
UNION ALL
(SELECT id, NULL FROM payments.stripe_checkout_sessions
 WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND status = 'completed'
   AND trial_granted
 LIMIT 1)
UNION ALL
(SELECT id, checkout_session_id FROM payments.stripe_checkout_sessions
 WHERE environment = $1 AND subject_type = $2 AND subject_id = $3 AND status = 'open'
   AND trial_granted AND id <> $4 AND checkout_session_id IS NOT NULL)
"""
_RECORD = "UPDATE payments.stripe_checkout_sessions SET trial_granted = $2 WHERE id = $1"


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
        async with deciding(database, environment, subject, "trial", row_id) as decision:
            others = await decision.connection.fetch(_OTHERS, *of_subject, row_id)
            if any(each["open_session"] is None for each in others):
                await record(decision.connection, row_id, granted=False)
                return False
            if not others:
                await decision.hold(row_id)
                await record(decision.connection, row_id, granted=True)
                return True
        for other in others:
            if not await expire(gateway, environment, other["open_session"]):
                await database.execute(_RECORD, row_id, False)
                return False  # it was paid: its event is on its way
            await expired(database, other["id"], other["open_session"])
    raise CheckoutAlreadyExists(
        f"Other checkouts with a trial are being created for the {subject.type} {subject.id}.",
        next_actions="Send the request again in a few seconds.",
    )


async def record(connection: Connection, row_id: UUID, *, granted: bool) -> None:
    """Record whether the checkout of a row has a trial."""
    await connection.execute(_RECORD, row_id, granted)
