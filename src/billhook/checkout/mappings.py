"""Which Stripe customer pays for a subject (`payments.customer_mappings`)."""

from __future__ import annotations

from billhook.errors import BillhookError
from billhook.models import BillingSubject
from billhook.postgres import Database
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
