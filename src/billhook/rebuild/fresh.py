"""Fresh, empty tables, and the event path's own functions aimed at them.

They are temporary: nobody else sees them, they cost no log to write, and they end with the
transaction or the process, however it ends.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from billhook.db import Connection

PATIENCE = 6 * 3600.0
"""Seconds that one statement of a rebuild may take."""

# All that the functions below read or write, except their types.
TABLES = (
    "payments.stripe_products",
    "payments.stripe_prices",
    "payments.customers",
    "payments.customer_mappings",
    "payments.stripe_subscriptions",
    "payments.stripe_subscription_items",
    "payments.stripe_checkout_sessions",
    "payments.transactions",
    "billhook.customer_claims",
    "billhook.payment_refs",
    "billhook.payment_sources",
    "billhook.payment_refunds",
    "billhook.tombstones",
    "billhook.refreshes",
    "billhook.ties",
)
_ENTRANCES = ("apply_changes", "project_fetched", "delete_fetched", "record_claim")

# Columns that the app added. What hangs on them alone, such as an index, goes with them.
_NOT_OURS = """
SELECT pg_catalog.string_agg(pg_catalog.format('DROP COLUMN %I CASCADE', attname), ', ')
FROM pg_catalog.pg_attribute
WHERE attrelid = $1::text::regclass::oid AND attnum > 0 AND NOT attisdropped
  AND attname NOT IN (SELECT name FROM billhook.own_columns WHERE relation = $1::text)
"""
_FUNCTIONS = """
SELECT proname AS name, prosrc AS body, pg_catalog.pg_get_functiondef(oid) AS definition
FROM pg_catalog.pg_proc
WHERE pronamespace = 'billhook'::regnamespace::oid AND prokind = 'f'
"""
# Or a table with a list of columns.
_CALLED = re.compile(r"\bbillhook\.(\w+)\s*\(")
_LOCKED = re.compile(r"\bpg_catalog\.pg_advisory_xact_lock(?:_shared)?\(")

# Numbers that no live payment has; the smaller is still the older.
_NUMBERS = """
CREATE TEMPORARY SEQUENCE payment_ids
    MINVALUE -9223372036854775808 START -9223372036854775808
"""
# Nobody else is here to take turns with, and a lock for each object would fill PostgreSQL's memory.
_ALONE = """
CREATE FUNCTION pg_temp.alone(key bigint) RETURNS void LANGUAGE plpgsql AS $$ BEGIN END $$
"""
# The functions may call each other, and their definitions are searched for plain names.
_PLAIN_DEFINITIONS = """
SET LOCAL check_function_bodies = off; SET LOCAL quote_all_identifiers = off
"""
_REPLAYED = "CREATE TEMPORARY TABLE replayed (event_id text PRIMARY KEY)"
_RENUMBERED = "CREATE TEMPORARY TABLE renumbered (rebuilt bigint PRIMARY KEY, live bigint)"


async def make(connection: Connection) -> None:
    """Make them, within the connection's transaction."""
    await drop(connection)  # a trigger of the app may have left some, named like ours
    for table in TABLES:
        name = table.partition(".")[2]
        await connection.execute(f"CREATE TEMPORARY TABLE {name} (LIKE {table} INCLUDING ALL)")
        if not_ours := await connection.fetchval(_NOT_OURS, table):
            await connection.execute(f"ALTER TABLE pg_temp.{name} {not_ours}")
    await connection.execute(_NUMBERS)
    await connection.execute(_REPLAYED)
    await connection.execute(_RENUMBERED)
    await _make_functions(connection, (*TABLES, "billhook.payment_ids"))


async def make_for_live_tables(connection: Connection) -> None:
    """Make the functions alone, aimed at the live tables, for whoever has locked those: one
    transaction may then write any number of objects without a lock for each."""
    await drop(connection)
    await _make_functions(connection, ())


async def count(connection: Connection) -> None:
    """Tell PostgreSQL's planner how they have grown: nobody else does that for temporary tables."""
    for table in TABLES:
        await connection.execute(f"ANALYZE pg_temp.{table.partition('.')[2]}", timeout=PATIENCE)


async def drop(connection: Connection) -> None:
    """Take them away before the transaction commits; another that rolls back needs no such step."""
    await connection.execute("DISCARD TEMPORARY")


async def _make_functions(connection: Connection, aimed_at: Collection[str]) -> None:
    """The functions that the entrances lead to, aimed at each other and at the fresh ones of these
    tables."""
    await connection.execute(_PLAIN_DEFINITIONS)
    await connection.execute(_ALONE)
    known = {row["name"]: row for row in await connection.fetch(_FUNCTIONS)}
    reached: set[str] = set()
    waiting = [*_ENTRANCES]
    while waiting:
        name = waiting.pop()
        if name in known and name not in reached:
            reached.add(name)
            waiting += _CALLED.findall(known[name]["body"])
    here = sorted([*aimed_at, *(f"billhook.{name}" for name in reached)])
    names = re.compile(rf"\b({'|'.join(map(re.escape, here))})\b")

    def aimed(definition: str) -> str:
        own = names.sub(lambda found: f"pg_temp.{found[1].partition('.')[2]}", definition)
        return _LOCKED.sub("pg_temp.alone(", own)

    for name in sorted(reached):
        await connection.execute(aimed(known[name]["definition"]))
