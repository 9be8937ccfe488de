"""Fresh, empty tables, and the functions of the event path for them.

They are temporary: no other session sees them, they write no WAL, and they disappear with the
transaction or the process, however it ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from billhook.postgres import LONG_PATIENCE, Connection
from billhook.postgres.migrate import function_files
from billhook.rows import Elsewhere, tables

_SURROGATE = ("id", "created_at", "updated_at")
# Tables with columns that no generated function writes.
_OTHERS = {
    "payments.stripe_checkout_sessions": """
        id environment mode status payment_status subject_type subject_id customer_email
        line_items success_url cancel_url idempotency_key metadata checkout_session_id
        customer_id payment_intent_id subscription_id url last_error request_hash raw created_at
        updated_at provider_event_at provider_event_rank provider_event_id
        provider_event_previous options offer offer_options redeemed_offer trial_granted""",
    "billhook.refreshes": "environment object_type object_id reason marked_at attempts next_at",
}
OWN_COLUMNS: Mapping[str, frozenset[str]] = {
    table.name.removeprefix(":"): frozenset(
        (*_SURROGATE, *table.key, *table.columns, *table.constants)
    )
    for table in tables.TABLES
} | {name: frozenset(columns.split()) for name, columns in _OTHERS.items()}
"""Of each table that the functions below read or write. The app may have added others."""
TABLES = tuple(OWN_COLUMNS)

_FUNCTIONS = ("load", "save", "generated")
_SCHEMA = "pg_temp"

# Columns that the app added. Objects that depend only on them, such as indexes, are dropped as
# well.
_NOT_OURS = """
SELECT pg_catalog.string_agg(pg_catalog.format('DROP COLUMN %I CASCADE', attname), ', ')
FROM pg_catalog.pg_attribute
WHERE attrelid = $1::text::regclass::oid AND attnum > 0 AND NOT attisdropped
  AND attname::text <> ALL ($2::text[])
"""
# Numbers that no live payment has; smaller still means older.
_FIRST_NUMBER = -(2**63)
_REPLAYED = "CREATE TEMPORARY TABLE replayed (event_id text PRIMARY KEY)"
_RENUMBERED = "CREATE TEMPORARY TABLE renumbered (rebuilt bigint PRIMARY KEY, live bigint)"


async def make(connection: Connection) -> Elsewhere:
    """Create them, within the connection's transaction."""
    await drop(connection)  # a trigger of the app may have left some, named like ours
    for table in TABLES:
        name = table.partition(".")[2]
        await connection.execute(f"CREATE TEMPORARY TABLE {name} (LIKE {table} INCLUDING ALL)")
        if not_ours := await connection.fetchval(_NOT_OURS, table, list(OWN_COLUMNS[table])):
            await connection.execute(f"ALTER TABLE pg_temp.{name} {not_ours}")
    await connection.execute(_REPLAYED)
    await connection.execute(_RENUMBERED)
    await connection.execute("SET LOCAL check_function_bodies = off")
    for file in function_files():
        if file.name in _FUNCTIONS:
            await connection.execute(file.sql_for(payments=_SCHEMA, billhook=_SCHEMA))
    return Elsewhere(_SCHEMA, itertools.count(_FIRST_NUMBER))


async def count(connection: Connection) -> None:
    """Update the planner's statistics: autovacuum does not analyze temporary tables."""
    for table in TABLES:
        await connection.execute(
            f"ANALYZE pg_temp.{table.partition('.')[2]}", timeout=LONG_PATIENCE
        )


async def drop(connection: Connection) -> None:
    """Drop them before the transaction commits; a rollback removes them anyway."""
    await connection.execute("DISCARD TEMPORARY")
