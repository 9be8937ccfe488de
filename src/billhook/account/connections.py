"""`payments.provider_connections`: the Stripe account of an environment, and the result of its last
sync (contract section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Literal

import structlog

from billhook.access.secrets import SecretStore, stripe_key_name, webhook_secret_name
from billhook.account import archived_rows
from billhook.errors import SecretUnreadable
from billhook.models import Config, ConfiguredKey, Connection, Status
from billhook.postgres import LONG_PATIENCE, Database, repeat_collisions
from billhook.postgres import Connection as DatabaseConnection
from billhook.postgres.leases import Lease, take_away
from billhook.postgres.refusals import replacing_rows
from billhook.redact import mask
from billhook.settings import ENVIRONMENTS, Environment
from billhook.stripe.gateway import Fetched, StripeObject

log = structlog.get_logger(__name__)

_COLUMNS = """environment, status, provider_account_id AS account_id, account_email,
    account_livemode, webhook_endpoint_id, webhook_endpoint_url, webhook_configured_at,
    last_synced_at, last_sync_status, last_sync_error, last_sync_counts"""

_GET = f"""
SELECT {_COLUMNS} FROM payments.provider_connections
WHERE provider = 'stripe' AND environment = $1
"""  # noqa: S608
_LOCK_ACCOUNT = """
SELECT provider_account_id FROM payments.provider_connections
WHERE provider = 'stripe' AND environment = $1 FOR UPDATE
"""
_ACCOUNT = """
INSERT INTO payments.provider_connections AS c (
    provider, environment, status, provider_account_id, account_email, account_name,
    account_livemode, raw)
VALUES ('stripe', $1, 'connected', $2, $3, $4, $5, $6)
ON CONFLICT (provider, environment) DO UPDATE SET
    status = 'connected',
    provider_account_id = EXCLUDED.provider_account_id,
    account_email = EXCLUDED.account_email,
    account_name = EXCLUDED.account_name,
    account_livemode = EXCLUDED.account_livemode,
    raw = EXCLUDED.raw
"""
# What is paid in test mode no longer gives access once real money can be paid, unless someone
# decided otherwise (docs/decisions/0017-access-environment.md).
_LIVE_GIVES_ACCESS = """
UPDATE payments.access_settings SET environment = 'live'
WHERE NOT is_chosen AND environment <> 'live'
"""
# None of another account's values apply to the new one.
_FORGET = """
UPDATE payments.provider_connections SET
    webhook_endpoint_id = NULL, webhook_endpoint_url = NULL, webhook_configured_at = NULL,
    last_synced_at = NULL, last_sync_status = NULL, last_sync_error = NULL, last_sync_counts = '{}'
WHERE provider = 'stripe' AND environment = $1
"""
_ENDPOINT = """
UPDATE payments.provider_connections SET
    webhook_endpoint_id = $2, webhook_endpoint_url = $3,
    webhook_configured_at = CASE WHEN $2::text IS NOT NULL THEN now() END
WHERE provider = 'stripe' AND environment = $1
"""
_FAILED = """
INSERT INTO payments.provider_connections AS c (
    provider, environment, status, last_sync_status, last_sync_error)
VALUES ('stripe', $1, $2, 'failed', $3)
ON CONFLICT (provider, environment) DO UPDATE SET
    status = EXCLUDED.status,
    last_sync_status = 'failed',
    last_sync_error = EXCLUDED.last_sync_error,
    webhook_endpoint_id = CASE WHEN $2 <> 'unconfigured' THEN c.webhook_endpoint_id END,
    webhook_endpoint_url = CASE WHEN $2 <> 'unconfigured' THEN c.webhook_endpoint_url END,
    webhook_configured_at = CASE WHEN $2 <> 'unconfigured' THEN c.webhook_configured_at END
"""
_SYNCED = """
UPDATE payments.provider_connections SET
    status = 'connected', last_synced_at = now(), last_sync_status = 'succeeded',
    last_sync_error = NULL, last_sync_counts = $2
WHERE provider = 'stripe' AND environment = $1
"""
_REMOVED = """
UPDATE payments.provider_connections SET
    status = 'unconfigured', webhook_endpoint_id = NULL, webhook_endpoint_url = NULL,
    webhook_configured_at = NULL, last_synced_at = NULL, last_sync_status = 'failed',
    last_sync_error = $2, last_sync_counts = '{}'
WHERE provider = 'stripe' AND environment = $1
"""

# Events from before the account was first connected are not applied.
_PULL = """
INSERT INTO billhook.pulls (environment, since, cursor_at)
VALUES ($1, pg_catalog.to_timestamp($2::bigint), pg_catalog.to_timestamp($2::bigint))
ON CONFLICT DO NOTHING
"""
_NO_EVENTS = "LOCK TABLE payments.webhook_events IN SHARE ROW EXCLUSIVE MODE"


class Connections:
    """The connection rows, and the masked keys that go with them."""

    def __init__(self, database: Database, secrets: SecretStore) -> None:
        self._database = database
        self._secrets = secrets

    async def status(self) -> Status:
        """Both environments, configured or not."""
        return Status(connections=[await self.get(each) for each in ENVIRONMENTS])

    async def config(self) -> Config:
        """Which environments have a key; the keys themselves stay here."""
        keys = [
            ConfiguredKey(environment=each, value=await self._masked_key(each))
            for each in ENVIRONMENTS
        ]
        return Config(keys=keys)

    async def get(self, environment: Environment) -> Connection:
        """One environment's connection; `unconfigured` if there is no row."""
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_GET, environment)
        found: Mapping[str, Any] = dict(row) if row else _EMPTY | {"environment": environment}
        return Connection(**found, masked_key=await self._masked_key(environment))

    async def _masked_key(self, environment: Environment) -> str | None:
        try:
            key = await self._secrets.stripe_key(environment)
        except SecretUnreadable:
            log.warning("a stored secret cannot be read", secret=stripe_key_name(environment))
            return None
        return mask(key) if key else None

    async def account_id(self, environment: Environment) -> str | None:
        """The account that the mirrored rows of `environment` belong to, as far as known."""
        return (await self.get(environment)).account_id

    async def connected(
        self,
        environment: Environment,
        fetched: Fetched,
        *,
        key: str | None = None,
        lease: Lease | None = None,
    ) -> None:
        """Record the account of a key, and the key if it is new.

        If it is another account than before, the previous account's rows are archived and its
        signing secrets revoked: its remaining deliveries must not be applied to the new account.
        This is one transaction, after which a running sync writes nothing.

        Args:
            fetched: Stripe's response to `GET /v1/account`.
            key: the key to store.
            lease: of the sync that fetched it.

        Raises:
            DatabaseRefused: a rule of the app (a foreign key, a trigger) rejected it; nothing was
                changed.
            LeaseLost: the key was changed since the sync fetched the account; nothing was changed.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        with replacing_rows("The Stripe account could not be connected"):
            await repeat_collisions(
                partial(self._connected, environment, fetched, key=key, lease=lease)
            )

    async def _connected(
        self, environment: Environment, fetched: Fetched, *, key: str | None, lease: Lease | None
    ) -> None:
        account = fetched.data
        async with self._database.as_service() as connection:
            # Leases first, then the account: a sync locks them in this order, too.
            if key is not None:
                await stop_readers(connection, environment)
            if lease is not None:
                await lease.check(connection)
            before = await lock_account(connection, environment)
            if before not in (None, account["id"]):
                await self._archive(connection, environment, before)
                log.warning(
                    "another account is connected: the rows of the one before are archived",
                    environment=environment,
                    account=account["id"],
                    before=before,
                )
            await connection.execute(
                _ACCOUNT,
                environment,
                account["id"],
                account.get("email"),
                _name_of(account),
                environment == "live",
                account,
            )
            if environment == "live":
                await connection.execute(_LIVE_GIVES_ACCESS)
            await archived_rows.pull_as_before(connection, environment, account["id"])
            await connection.execute(_PULL, environment, fetched.at)
            if key is not None:
                await self._secrets.set_in(connection, stripe_key_name(environment), key)

    async def _archive(
        self, connection: DatabaseConnection, environment: Environment, account_id: str
    ) -> None:
        await stop_readers(connection, environment)
        await connection.execute(_FORGET, environment)
        # Events in flight are finished first, so that their rows are archived too.
        await connection.execute(_NO_EVENTS, timeout=LONG_PATIENCE)
        await archived_rows.archive(connection, environment, account_id)
        await self._secrets.deactivate_in(connection, webhook_secret_name(environment))

    async def endpoint(
        self, environment: Environment, endpoint_id: str | None, url: str | None
    ) -> None:
        """Record the managed webhook endpoint, or that there is none."""
        await self._database.execute(_ENDPOINT, environment, endpoint_id, url)

    async def failed(
        self,
        environment: Environment,
        status: Literal["unconfigured", "error"],
        reason: str,
        lease: Lease,
    ) -> None:
        """Record why the environment could not be synced, unless the sync was overtaken."""
        async with self._database.as_service() as connection:
            await lease.check(connection)
            await connection.execute(_FAILED, environment, status, reason)

    async def synced(
        self, environment: Environment, counts: Mapping[str, int], lease: Lease
    ) -> None:
        """Record a sync that read everything, unless it was overtaken."""
        async with self._database.as_service() as connection:
            await lease.check(connection)
            await connection.execute(_SYNCED, environment, dict(counts))

    async def removed(self, environment: Environment) -> bool:
        """Forget the key and its signing secrets. The mirrored rows and their account stay known.

        Returns:
            False when there was no key.
        """
        async with self._database.as_service() as connection:
            if not await self._secrets.deactivate_in(connection, stripe_key_name(environment)):
                return False
            await stop_readers(connection, environment)
            await self._secrets.deactivate_in(connection, webhook_secret_name(environment))
            await connection.execute(_REMOVED, environment, not_configured(environment))
        return True


_EMPTY: dict[str, Any] = {
    "status": "unconfigured",
    "account_id": None,
    "account_email": None,
    "account_livemode": None,
    "webhook_endpoint_id": None,
    "webhook_endpoint_url": None,
    "webhook_configured_at": None,
    "last_synced_at": None,
    "last_sync_status": None,
    "last_sync_error": None,
    "last_sync_counts": {},
}


def not_configured(environment: Environment) -> str:
    """The reason of an environment without a key, in InsForge's words."""
    return f"{stripe_key_name(environment)} is not configured"


async def lock_account(connection: DatabaseConnection, environment: Environment) -> str | None:
    """The account of the mirrored rows, which stays the same until the transaction ends."""
    account: str | None = await connection.fetchval(_LOCK_ACCOUNT, environment)
    return account


async def stop_readers(connection: DatabaseConnection, environment: Environment) -> None:
    """Revoke the leases of syncs, imports and verifications that use the previous key."""
    await take_away(connection, f"sync:{environment}")
    await take_away(connection, f"import:{environment}")
    await take_away(connection, f"pull:{environment}")
    await take_away(connection, f"verify:{environment}")
    await take_away(connection, f"usage:{environment}")


def _name_of(account: StripeObject) -> str | None:
    for section, field in (("business_profile", "name"), ("settings", "dashboard")):
        value = (account.get(section) or {}).get(field)
        if isinstance(value, dict):
            value = value.get("display_name")
        if isinstance(value, str) and value:
            return value
    return None
