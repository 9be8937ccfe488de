"""Which Stripe customer pays for a subject (`payments.customer_mappings`)."""

from __future__ import annotations

import time

from billhook.db import Database, repeat_collisions
from billhook.errors import BillhookError
from billhook.models import BillingSubject
from billhook.projections import Changes, Event
from billhook.rows import Fact, apply_facts
from billhook.settings import Environment
from billhook.stripe.gateway import refusal_of

_CUSTOMER_OF = """
SELECT provider_customer_id FROM payments.customer_mappings
WHERE provider = 'stripe' AND environment = $1 AND subject_type = $2 AND subject_id = $3
"""


async def customer_of(
    database: Database, environment: Environment, subject: BillingSubject | None
) -> str | None:
    """The subject's Stripe customer, or None."""
    if subject is None:
        return None
    async with database.connection() as connection:
        customer: str | None = await connection.fetchval(
            _CUSTOMER_OF, environment, subject.type, subject.id
        )
    return customer


def is_unknown_customer(error: BillhookError) -> bool:
    """Whether Stripe rejected a request because the customer does not exist (any more), and not
    because of a missing price or another object."""
    refusal = refusal_of(error)
    return (
        refusal is not None and refusal.code == "resource_missing" and refusal.param == "customer"
    )


async def forget_customer(database: Database, environment: Environment, customer: str) -> None:
    """Remove a customer that does not exist at Stripe, with its mappings."""

    gone = Event("", "customer", int(time.time()), {"id": customer})
    # With a tombstone: a late event does not restore its mapping.
    fact = Fact(gone, Changes(deleted=("customer", customer)))

    async def work() -> None:
        async with database.as_service() as connection:
            await apply_facts(connection, environment, [fact], outside_ledger=True)

    await repeat_collisions(work)
