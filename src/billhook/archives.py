"""Archives: the rows of a Stripe account that is no longer connected (contract section 5)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

import structlog

from billhook.connections import stop_readers
from billhook.db import Connection, Database, repeat_collisions
from billhook.errors import BillhookError, NotFound
from billhook.rebuild import fresh
from billhook.rebuild.fresh import PATIENCE
from billhook.rebuild.replay import MIRRORED, Telling
from billhook.settings import Environment

log = structlog.get_logger(__name__)

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
_RESTORE = "SELECT billhook.restore($1, $2)"
# Who writes waits, who reads does not. The ledger first, as an event's transaction does.
_LOCK = f"""
LOCK TABLE payments.webhook_events, {", ".join(fresh.TABLES)} IN SHARE ROW EXCLUSIVE MODE
"""
_CONNECTED = """
UPDATE payments.provider_connections SET provider_account_id = $2
WHERE provider = 'stripe' AND environment = $1
"""
# What stood in the place of the rows that came back.
_PRESENT = "SELECT id FROM billhook.archives WHERE environment = $1 AND archived_at = now()"
_CLAIMS = """
SELECT pg_temp.record_claim($1, content, (content ->> 'claimed_at'::text)::timestamptz)
FROM billhook.archived_rows
WHERE archive_id = $2 AND relation = 'billhook.customer_claims'
  AND (content ->> 'outside_ledger'::text)::boolean
"""
_GONE = """
SELECT pg_temp.delete_fetched($1, content ->> 'object_type'::text, content ->> 'object_id'::text,
    extract(epoch FROM (content ->> 'deleted_at'::text)::timestamptz)::bigint)
FROM billhook.archived_rows
WHERE archive_id = $2 AND relation = 'billhook.tombstones'
  AND (content ->> 'outside_ledger'::text)::boolean
"""
_FETCHED = """
SELECT content -> 'raw'::text AS raw,
    extract(epoch FROM (content ->> 'provider_event_at'::text)::timestamptz)::bigint AS at
FROM billhook.archived_rows
WHERE archive_id = $1 AND relation = 'payments.' || $2::text
  AND content ->> 'provider_event_id'::text IS NULL
  AND content ->> 'provider_event_at'::text IS NOT NULL
"""
_FETCHED_PAYMENTS = """
SELECT content ->> 'event_type'::text AS event_type, content -> 'object'::text AS object,
    extract(epoch FROM (content ->> 'told_at'::text)::timestamptz)::bigint AS at
FROM billhook.archived_rows WHERE archive_id = $1 AND relation = 'billhook.fetched_payments'
"""
# All of this account but those that the archive's rows know, because they came in its time.
_EVENTS = """
WITH its_time AS MATERIALIZED (
    SELECT a.archived_at AS upto, coalesce((
        SELECT pg_catalog.max(b.archived_at) FROM billhook.archives b
        WHERE b.environment = a.environment AND b.archived_at < a.archived_at
          AND b.account_id <> a.account_id), '-infinity') AS since
    FROM billhook.archives a WHERE a.id = $2)
SELECT payload::text FROM (
    SELECT payload, received_at FROM payments.webhook_events
    WHERE provider = 'stripe' AND environment = $1
    UNION ALL
    SELECT content -> 'payload'::text, (content ->> 'received_at'::text)::timestamptz
    FROM billhook.archived_events, its_time
    WHERE environment = $1 AND (archived_at > upto OR since > '-infinity')) AS told, its_time
WHERE NOT (received_at > since AND received_at <= upto)
  AND billhook.is_of_this_account($1, received_at)
ORDER BY received_at
"""
# Claims that came back may say for whom a subscription is that stayed.
_SUBJECTS = """
SELECT pg_temp.resolve_subjects($1, customer) FROM (
    SELECT DISTINCT content ->> 'customer_id'::text AS customer FROM billhook.archived_rows
    WHERE archive_id = $2 AND relation = 'payments.stripe_subscriptions') AS of_subscriptions
"""


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
    """Bring an archive's rows back. Rows that stand in their place are archived first; what came of
    the same account since it is connected again is kept, and told to the rows that came back.

    Returns:
        How many rows came back.

    Raises:
        NotFound: no such archive, or one that was restored already.
        BillhookError: 409, another account is connected: its sync would undo the restoration.
    """
    return await repeat_collisions(partial(_restore, database, archive_id))


async def _restore(database: Database, archive_id: UUID) -> int:
    async with database.as_service() as connection:
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
        # A sync that runs begins anew: what it wrote so far may be overtaken here.
        await stop_readers(connection, row["environment"])
        await connection.execute(_LOCK, timeout=PATIENCE)
        restored: int = await connection.fetchval(
            _RESTORE, archive_id, row["connected"], timeout=PATIENCE
        )
        if row["connected"] == row["archived"]:
            await _tell_again(connection, row["environment"], archive_id)
        await connection.execute(_CONNECTED, row["environment"], row["archived"])
    return restored


async def _tell_again(connection: Connection, environment: Environment, restored: UUID) -> None:
    """Tell the rows that came back what was told to those in their place. The ledger is only read:
    no trigger of the app's on it fires."""
    present = await connection.fetchval(_PRESENT, environment)
    await fresh.make_for_live_tables(connection)
    await connection.execute(_CLAIMS, environment, present, timeout=PATIENCE)
    telling = Telling(connection, environment)
    for kind, (table, _) in MIRRORED.items():
        await telling.in_batches(_FETCHED, partial(telling.show, kind), present, table)
    await connection.execute(_GONE, environment, present, timeout=PATIENCE)
    await telling.in_batches(_FETCHED_PAYMENTS, telling.apply_fetched, present)
    await telling.in_batches(_EVENTS, telling.apply_events, environment, restored)
    await connection.execute(_SUBJECTS, environment, present, timeout=PATIENCE)
    await fresh.drop(connection)
    for each in telling.skipped:
        log.warning(
            "an event could not be applied again", event_id=each.event_id, reason=each.reason
        )
