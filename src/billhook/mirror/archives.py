"""Archives: the rows of a Stripe account that is no longer connected (contract section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from billhook.account import archived_rows
from billhook.account.connections import lock_account, stop_readers
from billhook.errors import BillhookError, DatabaseRefused, NotFound
from billhook.mirror.rebuild import hold_writers, rebuild_in
from billhook.postgres import LONG_PATIENCE, Connection, Database, repeat_collisions
from billhook.postgres.refusals import replacing_rows
from billhook.settings import Environment

_LIST = """
SELECT id, environment, account_id, archived_at, restored_at FROM billhook.archives
ORDER BY archived_at DESC
"""
_ACCOUNTS = """
SELECT a.environment, a.account_id AS archived, c.provider_account_id AS connected, c.status
FROM billhook.archives a
LEFT JOIN payments.provider_connections c
    ON c.provider = 'stripe' AND c.environment = a.environment
WHERE a.id = $1 AND a.restored_at IS NULL
FOR UPDATE OF a
"""
_ENVIRONMENT = "SELECT environment FROM billhook.archives WHERE id = $1"
_RESTORED = "UPDATE billhook.archives SET restored_at = now() WHERE id = $1"
_REMOVE_COPIES = """
WITH gone AS (
    DELETE FROM billhook.archived_rows WHERE archive_id = $1 AND relation = $2 RETURNING 1)
SELECT pg_catalog.count(*) FROM gone
"""
_COPIES = "SELECT pg_catalog.count(*) FROM billhook.archived_rows WHERE archive_id = $1"
_CONNECTED = """
UPDATE payments.provider_connections SET provider_account_id = $2
WHERE provider = 'stripe' AND environment = $1
"""
# Tables whose current rows are kept unless the archive has a row with the same key.
_KEPT = (
    *archived_rows.MIRRORED,
    "payments.stripe_checkout_sessions",
    "payments.stripe_customer_portal_sessions",
    "payments.transactions",
    "billhook.payment_refs",
    "billhook.discounts",
    "billhook.refreshes",
    "billhook.event_retries",
)
_UNLESS_PRESENT = "ON CONFLICT DO NOTHING"
_NEWER = """ON CONFLICT (environment, event_type, object_id) DO UPDATE SET
    told_at = EXCLUDED.told_at, object = EXCLUDED.object"""


@dataclass(frozen=True, slots=True)
class Archive:
    """The rows archived when another account was connected. Restored archives are empty."""

    id: UUID
    environment: Environment
    account_id: str | None
    archived_at: datetime
    restored_at: datetime | None


async def archives(database: Database) -> list[Archive]:
    """All archives, the newest first."""
    async with database.connection() as connection:
        return [Archive(**row) for row in await connection.fetch(_LIST)]


async def restore(database: Database, archive_id: UUID) -> int:
    """Restore an archive's rows. The current rows are archived first. Rows that arrived since the
    same account was reconnected are kept: the environment is rebuilt from the ledger, while writers
    wait.

    Returns:
        How many rows were restored.

    Raises:
        NotFound: no such archive, or one that was restored already.
        BillhookError: 409, another account is connected: its sync would undo the restoration.
        DatabaseRefused: a rule of the app (a foreign key, a trigger) rejected it, or the archive
            has rows of unknown tables; nothing was changed.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    with replacing_rows("The archive could not be restored"):
        return await repeat_collisions(partial(_restore, database, archive_id))


async def _restore(database: Database, archive_id: UUID) -> int:
    async with database.as_service() as connection:
        # Locked as a change of the account locks: until the end, the account stays the same. A
        # running sync starts over, because what it has written may be replaced here.
        environment = await connection.fetchval(_ENVIRONMENT, archive_id)
        if environment is not None:
            await stop_readers(connection, environment)
            await lock_account(connection, environment)
        row = await connection.fetchrow(_ACCOUNTS, archive_id)
        if row is None:
            raise NotFound(
                f"There is no archive {archive_id} to restore.",
                next_actions="`billhook archive list` shows them.",
            )
        if row["status"] != "unconfigured" and row["connected"] != row["archived"]:
            raise BillhookError(
                f"The archive is of account {row['archived']}, but {row['connected']} is "
                "connected.",
                status=409,
                code="DATABASE_DUPLICATE",
                next_actions="Set a key of the archived account first, or remove the current one.",
            )
        await hold_writers(connection)
        replaced = await archived_rows.archive(connection, row["environment"], row["connected"])
        restored = await _bring_back_all(connection, archive_id)
        if row["connected"] == row["archived"]:
            await _keep(connection, row["environment"], row["connected"], replaced)
        await connection.execute(_CONNECTED, row["environment"], row["archived"])
    return restored


async def _bring_back_all(connection: Connection, archive_id: UUID) -> int:
    """Bring an archive's rows back. No row of the app may still refer to the current rows, unless
    its foreign key is deferred."""
    await connection.execute(_RESTORED, archive_id)
    restored = 0
    for table in archived_rows.TABLES:
        brought = await archived_rows.bring_back(connection, archive_id, table)
        archived = await connection.fetchval(
            _REMOVE_COPIES, archive_id, table, timeout=LONG_PATIENCE
        )
        if brought != archived:
            raise DatabaseRefused(
                f"{archived - brought} of {archived} archived rows of {table} could not be "
                "restored.",
                next_actions="A trigger on that table drops what is written.",
            )
        restored += brought
    if unknown := await connection.fetchval(_COPIES, archive_id, timeout=LONG_PATIENCE):
        raise DatabaseRefused(
            f"{unknown} archived rows are of tables that this version of Billhook does not know.",
            next_actions="Restore the archive with the version of Billhook that made it, or a "
            "newer one.",
        )
    return restored


async def _keep(
    connection: Connection, environment: Environment, account: str | None, replaced: UUID
) -> None:
    """Keep what came since the account was connected again: rows without an equal in the archive
    stay as they are. The rebuild applies the events that changed the others, and recreates claims
    and the facts of payments."""
    await archived_rows.pull_as_before(connection, environment, account)
    for table in _KEPT:
        await archived_rows.bring_back(connection, replaced, table, _UNLESS_PRESENT)
    await archived_rows.bring_back(connection, replaced, "billhook.fetched_payments", _NEWER)
    await rebuild_in(connection, environment, archive=replaced)
