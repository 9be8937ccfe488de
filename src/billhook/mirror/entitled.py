"""Customers who may be entitled to features. Stripe lists the entitlements of one at a time."""

from __future__ import annotations

from billhook.kinds import SUMMARY
from billhook.mirror.fetching import StripeReader

# What a customer is entitled to follows from its subscriptions and from the features of products:
# where there are no features, nobody is asked for.
_CANDIDATES = """
SELECT DISTINCT s.customer_id FROM payments.stripe_subscriptions s
WHERE s.environment = $1 AND s.status NOT IN ('canceled', 'incomplete_expired')
  AND EXISTS (SELECT FROM payments.stripe_features f WHERE f.environment = $1)
"""
_QUEUE_UNKNOWN = f"""
INSERT INTO billhook.refreshes (environment, object_type, object_id, reason)
SELECT $1, $2, c.customer_id, 'its entitlements are not known' FROM ({_CANDIDATES}) AS c
WHERE NOT EXISTS (
    SELECT FROM payments.stripe_entitlement_summaries k
    WHERE k.environment = $1 AND k.customer_id = c.customer_id)
ON CONFLICT DO NOTHING
"""  # noqa: S608
# In an order of its own each time, so that successive samples cover all of them.
_SOME = f"""
SELECT customer_id, count(*) OVER () AS all FROM (
    SELECT customer_id FROM payments.stripe_entitlement_summaries WHERE environment = $1
    UNION {_CANDIDATES}) AS known
ORDER BY pg_catalog.random() LIMIT $2
"""  # noqa: S608


async def queue_unknown(reader: StripeReader) -> None:
    """Queue a refresh of each customer whose entitlements were never reported: those that were
    there before the account was connected. Afterwards, events report every change.

    Raises:
        LeaseLost: nothing may be written any more.
    """
    async with reader.database.as_service() as connection:
        await reader.check(connection)
        await connection.execute(_QUEUE_UNKNOWN, reader.environment, SUMMARY.name)


async def some_customers(reader: StripeReader, most: int) -> tuple[list[str], bool]:
    """Customers that are or may be entitled to something, and whether these are all of them."""
    async with reader.database.connection() as connection:
        rows = await connection.fetch(_SOME, reader.environment, most)
    return [row["customer_id"] for row in rows], not rows or rows[0]["all"] <= most
