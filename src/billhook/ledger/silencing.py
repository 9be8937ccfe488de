"""The last resort for a failed event, if a trigger of the app rejects every write to the ledger,
even `failed` (docs/decisions/0008-silenced-triggers.md): write it with the app's triggers disabled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from billhook.postgres import Connection

# No other session sees them disabled: other writers wait until the transaction ends.
_LOCK = """
SET LOCAL lock_timeout = '5s';
LOCK TABLE payments.webhook_events IN SHARE ROW EXCLUSIVE MODE;
RESET lock_timeout
"""
_ENABLED = """
SELECT pg_catalog.quote_ident(t.tgname) AS name, t.tgenabled::text AS enabled
FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
WHERE t.tgrelid = 'payments.webhook_events'::regclass::oid AND NOT t.tgisinternal
  AND t.tgenabled <> 'D'::"char" AND p.pronamespace <> 'billhook'::regnamespace::oid
"""
_ALTER = "ALTER TABLE payments.webhook_events {} TRIGGER {}"
_ENABLE = {"O": "ENABLE", "A": "ENABLE ALWAYS", "R": "ENABLE REPLICA"}


@asynccontextmanager
async def silenced_triggers(connection: Connection) -> AsyncIterator[None]:
    """Disable the app's triggers on the ledger, within the caller's transaction.

    Raises:
        asyncpg.InsufficientPrivilegeError: the table belongs to another role.
        asyncpg.LockNotAvailableError: other writers don't end.
    """
    await connection.execute(_LOCK)
    enabled = await connection.fetch(_ENABLED)
    disable = [_ALTER.format("DISABLE", each["name"]) for each in enabled]
    enable = [_ALTER.format(_ENABLE[each["enabled"]], each["name"]) for each in enabled]
    await connection.execute("; ".join(disable))
    yield
    # Pending deferred triggers would make ALTER TABLE fail.
    await connection.execute("; ".join(["SET CONSTRAINTS ALL IMMEDIATE", *enable]))
