"""Who has access: the settings, and the answer that a policy would get (functions/access.sql)."""

from __future__ import annotations

from datetime import timedelta

from billhook.models import (
    Access,
    AccessQuery,
    AccessSettings,
    ActiveSubscription,
    UpdateAccessSettings,
)
from billhook.postgres import Database

_SETTINGS = "environment, is_chosen, extract(epoch FROM grace)::bigint AS grace_seconds"
_READ = f"SELECT {_SETTINGS} FROM payments.access_settings"  # noqa: S608
_UPDATE = f"""
UPDATE payments.access_settings SET
    environment = coalesce($1, environment), is_chosen = is_chosen OR $1::text IS NOT NULL,
    grace = coalesce(pg_catalog.make_interval(secs => $2::bigint), grace)
RETURNING {_SETTINGS}
"""  # noqa: S608
_QUANTITY = "SELECT payments.access_quantity($1::text, $2::text, $3::text, $4::text, $5::interval)"
_COLUMNS = ", ".join(ActiveSubscription.model_fields)
_SUBSCRIPTIONS = f"""
SELECT {_COLUMNS} FROM payments.active_subscriptions
WHERE environment = $1 AND subject_type = $2 AND subject_id = $3
ORDER BY subscription_id, subscription_item_id
"""  # noqa: S608
_FEATURES = """
SELECT DISTINCT e.lookup_key FROM payments.customer_mappings m
JOIN payments.stripe_active_entitlements e
  ON e.environment = m.environment AND e.customer_id = m.provider_customer_id
WHERE m.provider = 'stripe' AND m.environment = $1 AND m.subject_type = $2 AND m.subject_id = $3
ORDER BY e.lookup_key
"""


async def settings(database: Database) -> AccessSettings:
    """What gives access if a policy does not say so itself."""
    async with database.connection() as connection:
        row = await connection.fetchrow(_READ)
    assert row is not None
    return AccessSettings(**dict(row))


async def update_settings(database: Database, order: UpdateAccessSettings) -> AccessSettings:
    """Change them. An environment that is given here stays, whatever is connected later."""
    async with database.as_service() as connection:
        row = await connection.fetchrow(_UPDATE, order.environment, order.grace_seconds)
    assert row is not None
    return AccessSettings(**dict(row))


async def check(database: Database, query: AccessQuery) -> Access:
    """Whether a subject has access, as `payments.has_access` says, and to what else."""
    grace = None if query.grace_seconds is None else timedelta(seconds=query.grace_seconds)
    subject = (query.subject_type, query.subject_id)
    async with database.connection() as connection:
        quantity = await connection.fetchval(
            _QUANTITY, *subject, query.what, query.environment, grace
        )
        environment = query.environment
        if environment is None:
            environment = await connection.fetchval(
                "SELECT environment FROM payments.access_settings"
            )
        found = await connection.fetch(_SUBSCRIPTIONS, environment, *subject)
        features = await connection.fetch(_FEATURES, environment, *subject)
    return Access(
        environment=environment,
        subject_type=query.subject_type,
        subject_id=query.subject_id,
        what=query.what,
        has_access=quantity is not None,
        quantity=quantity,
        subscriptions=[ActiveSubscription(**dict(row)) for row in found],
        features=[row["lookup_key"] for row in features],
    )
