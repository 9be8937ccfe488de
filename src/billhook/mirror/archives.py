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
# These the rebuild recreates from facts: two periods' rows don't fit together.
_RECREATED = frozenset(
    (
        "payments.customer_mappings",
        "billhook.customer_claims",
        "payments.mrr_movements",
        "billhook.payment_sources",
        "billhook.payment_refunds",
        "billhook.subscription_states",
        "billhook.tombstones",
        "billhook.ties",
    )
)
_KEPT = tuple(each for each in archived_rows.TABLES if each not in _RECREATED)
"""Tables whose current rows are kept unless the archive has a row with the same key."""

_UNLESS_PRESENT = "ON CONFLICT DO NOTHING"
_ON_CONFLICT = {
    "billhook.fetched_payments": """ON CONFLICT (environment, event_type, object_id) DO UPDATE SET
        told_at = EXCLUDED.told_at, object = EXCLUDED.object""",
    # What was decided last is true.
    "payments.offers": """ON CONFLICT (environment, name) DO UPDATE SET
        active = EXCLUDED.active, options = EXCLUDED.options, price_ids = EXCLUDED.price_ids,
        lookup_keys = EXCLUDED.lookup_keys, redeem_by = EXCLUDED.redeem_by,
        max_redemptions = EXCLUDED.max_redemptions, updated_at = EXCLUDED.updated_at
        WHERE EXCLUDED.updated_at > offers.updated_at""",
}
# Of two rows with one identifier, the one that Stripe may have. If neither was sent, either.
_USAGE_GIVES_WAY = """
DELETE FROM payments.usage AS u USING billhook.archived_rows AS kept
WHERE kept.archive_id = $1 AND kept.relation = 'payments.usage'
  AND u.environment = kept.content ->> 'environment'::text
  AND u.identifier = kept.content ->> 'identifier'::text
  AND u.status IN ('pending', 'waiting', 'failed')
"""
ADDED_DAY = """count = d.count + {more}.count, sum = d.sum + {more}.sum,
    last = CASE WHEN {more}.last_at >= d.last_at THEN {more}.last ELSE d.last END,
    last_at = greatest(d.last_at, {more}.last_at)"""
"""What `payments.usage_days AS d` becomes with more usage of the same day."""

# A day of both periods has the usage of both.
_ADD_DAYS = """
WITH kept AS (
    SELECT d.* FROM billhook.archived_rows AS a,
        pg_catalog.jsonb_populate_record(NULL::payments.usage_days, a.content) AS d
    WHERE a.archive_id = $1 AND a.relation = 'payments.usage_days')
UPDATE payments.usage_days AS d SET {added}
FROM kept
WHERE d.environment = kept.environment AND d.meter = kept.meter AND d.day = kept.day
  AND coalesce(d.subject_type, '') = coalesce(kept.subject_type, '')
  AND coalesce(d.subject_id, '') = coalesce(kept.subject_id, '')
  AND coalesce(d.customer_id, '') = coalesce(kept.customer_id, '')
"""
# An offer of both periods is one offer, with the redemptions of both.
_ONE_OFFER = """
UPDATE payments.stripe_checkout_sessions AS s SET redeemed_offer = o.id
FROM billhook.archived_rows AS kept, payments.offers AS o
WHERE kept.archive_id = $1 AND kept.relation = 'payments.offers'
  AND o.environment = kept.content ->> 'environment'::text
  AND o.name = kept.content ->> 'name'::text
  AND s.redeemed_offer = (kept.content ->> 'id'::text)::uuid AND s.redeemed_offer <> o.id
"""
_COUNT_REDEMPTIONS = """
UPDATE payments.offers AS o SET redemptions = greatest(o.redemptions, found.redemptions)
FROM (
    SELECT redeemed_offer, pg_catalog.count(*) AS redemptions
    FROM payments.stripe_checkout_sessions WHERE environment = $1 GROUP BY redeemed_offer) AS found
WHERE found.redeemed_offer = o.id
"""
_BEFORE = {
    "payments.usage": _USAGE_GIVES_WAY,
    "payments.usage_days": _ADD_DAYS.format(added=ADDED_DAY.format(more="kept")),
}


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
        if table in _BEFORE:
            await connection.execute(_BEFORE[table], replaced, timeout=LONG_PATIENCE)
        on_conflict = _ON_CONFLICT.get(table, _UNLESS_PRESENT)
        await archived_rows.bring_back(connection, replaced, table, on_conflict)
    await connection.execute(_ONE_OFFER, replaced, timeout=LONG_PATIENCE)
    await connection.execute(_COUNT_REDEMPTIONS, environment, timeout=LONG_PATIENCE)
    await rebuild_in(connection, environment, archive=replaced)
