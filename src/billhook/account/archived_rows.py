"""Moves the rows of a Stripe account into an archive, and back.

Each function works in the caller's transaction, which has locked the ledger
(`payments.webhook_events`), so that no event is applied during the switch.
"""

from __future__ import annotations

import uuid
from typing import Any
from uuid import UUID

from billhook import kinds
from billhook.errors import DatabaseRefused
from billhook.postgres import LONG_PATIENCE, Connection
from billhook.postgres.providers import of_stripe
from billhook.settings import Environment

MIRRORED = tuple(f"payments.{table}" for table in kinds.TABLES)
TABLES = (
    *MIRRORED,
    "payments.customer_assignments",
    "payments.customer_mappings",
    "payments.stripe_checkout_sessions",
    "payments.stripe_customer_portal_sessions",
    "payments.transactions",
    "payments.offers",
    "payments.mrr_movements",
    "payments.usage",
    "payments.usage_days",
    "billhook.usage_batches",
    "billhook.customer_claims",
    "billhook.payment_refs",
    "billhook.payment_sources",
    "billhook.payment_refunds",
    "billhook.subscription_states",
    "billhook.discounts",
    "billhook.fetched_payments",
    "billhook.tombstones",
    "billhook.refreshes",
    "billhook.ties",
    "billhook.event_retries",
)
"""The tables whose rows belong to one Stripe account. Not the ledger: it keeps what happened, and
an update there would fire the app's triggers. Not the requests for refunds, charges and changes of
subscriptions: a repeated one must be known, whichever account was connected in between."""

# Callers insert their sessions, and the app its usage and assignments, without locking the ledger.
_NO_INSERTS = """
LOCK TABLE payments.stripe_checkout_sessions, payments.stripe_customer_portal_sessions,
    payments.usage, payments.customer_assignments IN SHARE ROW EXCLUSIVE MODE
"""
_ARCHIVE = """
INSERT INTO billhook.archives (id, environment, account_id, pull)
VALUES ($2, $1, $3, (SELECT pg_catalog.to_jsonb(p) FROM billhook.pulls p WHERE p.environment = $1))
"""
_MOVE = """
WITH gone AS (
    DELETE FROM {table} AS t WHERE {of_stripe} RETURNING pg_catalog.to_jsonb(t) AS content)
INSERT INTO billhook.archived_rows (archive_id, relation, content)
SELECT $2, $3, content FROM gone
"""
_REMAINING = "SELECT pg_catalog.count(*) FROM {table} WHERE {of_stripe}"
# Whose events the ledger holds.
_RECORD_ACCOUNT = """
INSERT INTO billhook.event_accounts (environment, event_id, account_id)
SELECT e.environment, e.provider_event_id, $2 FROM payments.webhook_events e
WHERE e.provider = 'stripe' AND e.environment = $1
UNION ALL
SELECT a.environment, a.event_id, $2 FROM billhook.archived_events a WHERE a.environment = $1
ON CONFLICT DO NOTHING
"""
_END_SYNCS = "DELETE FROM billhook.syncs WHERE environment = $1"
_END_IMPORT = "DELETE FROM billhook.imports WHERE environment = $1"
_END_PULLING = "DELETE FROM billhook.pulls WHERE environment = $1"

_PULL_AS_BEFORE = """
INSERT INTO billhook.pulls
SELECT p.*
FROM billhook.archives a, pg_catalog.jsonb_populate_record(NULL::billhook.pulls, a.pull) p
WHERE a.environment = $1 AND a.account_id = $2 AND a.pull IS NOT NULL
ORDER BY a.archived_at DESC LIMIT 1
ON CONFLICT DO NOTHING
"""

# All rows of an archive were archived at the same time, with the same columns.
_COLUMNS = """
SELECT pg_catalog.quote_ident(a.attname) AS name FROM pg_catalog.pg_attribute a, (
    SELECT content FROM billhook.archived_rows WHERE archive_id = $1 AND relation = $2 LIMIT 1
) AS one
WHERE a.attrelid = $2::text::regclass::oid
  AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  AND one.content ? a.attname::text
"""
_BRING_BACK = """
WITH brought AS (
    INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE
    SELECT {values}
    FROM billhook.archived_rows kept,
        pg_catalog.jsonb_populate_record(NULL::{table}, kept.content) r
    WHERE kept.archive_id = $1 AND kept.relation = $2 {on_conflict}
    RETURNING 1)
SELECT pg_catalog.count(*) FROM brought
"""


async def archive(connection: Connection, environment: Environment, account: str | None) -> UUID:
    """Move an environment's rows into a new archive, and record whose events the ledger holds.

    Returns:
        The archive's id.

    Raises:
        DatabaseRefused: a trigger of the app keeps rows. Errors that its rules raise are not caught
            here.
    """
    archive_id = uuid.uuid4()

    async def execute(statement: str, *args: Any) -> None:
        await connection.execute(statement, environment, *args, timeout=LONG_PATIENCE)

    # After the ledger: an event's transaction locks them in this order.
    await connection.execute(_NO_INSERTS, timeout=LONG_PATIENCE)
    await execute(_ARCHIVE, archive_id, account)
    for table in TABLES:
        names = {"table": table, "of_stripe": of_stripe(table)}
        await execute(_MOVE.format(**names), archive_id, table)
        remaining = await connection.fetchval(
            _REMAINING.format(**names), environment, timeout=LONG_PATIENCE
        )
        if remaining:
            raise DatabaseRefused(
                f"{remaining} rows of {table} could not be archived.",
                next_actions="A trigger on that table keeps rows from being deleted.",
            )
    await execute(_RECORD_ACCOUNT, account or "")
    await execute(_END_SYNCS)
    await execute(_END_IMPORT)
    await execute(_END_PULLING)
    return archive_id


async def bring_back(
    connection: Connection, archive_id: UUID, table: str, on_conflict: str = ""
) -> int:
    """Insert the rows of one table that an archive holds. Columns that the app added come back
    with their values; generated columns are computed, and columns that are new since then have
    their defaults.

    Returns:
        How many rows were inserted.
    """
    columns = [row["name"] for row in await connection.fetch(_COLUMNS, archive_id, table)]
    if not columns:
        return 0
    statement = _BRING_BACK.format(
        table=table,
        columns=", ".join(columns),
        values=", ".join(f"r.{column}" for column in columns),
        on_conflict=on_conflict,
    )
    brought: int = await connection.fetchval(statement, archive_id, table, timeout=LONG_PATIENCE)
    return brought


async def pull_as_before(
    connection: Connection, environment: Environment, account: str | None
) -> None:
    """Pull an account's events from where its last archive left off, so that nothing is missed
    that happened while another account was connected. Does nothing for a new account, or where
    events are being pulled."""
    await connection.execute(_PULL_AS_BEFORE, environment, account)
