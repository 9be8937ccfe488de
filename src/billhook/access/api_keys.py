"""Admin keys (`ik_…`) and anonymous keys (`anon_…`), stored as SHA-256 hashes.

A key is shown once, when it is created. It has 192 random bits, so a plain hash is enough: it
cannot be guessed, and without a salt it can be looked up by index.
"""

from __future__ import annotations

import hmac
import secrets as random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Literal
from uuid import UUID

import asyncpg
import structlog
from pydantic import SecretStr

from billhook.access.permissions import Grant, KeyRole
from billhook.access.secrets import SecretStore, StoredSecret
from billhook.credentials import why_guessable
from billhook.errors import NotFound, SecretUnreadable
from billhook.postgres import Database
from billhook.redact import mask
from billhook.settings import ENVIRONMENTS, Environment, Settings

Kind = Literal["admin", "anonymous"]
PREFIXES: dict[Kind, str] = {"admin": "ik_", "anonymous": "anon_"}
# Under these names InsForge keeps its keys in the secret store (contract section 4).
_INSFORGE_NAMES: dict[Kind, str] = {"admin": "API_KEY", "anonymous": "ANON_KEY"}

_COLUMNS = """
    id, kind, hint, name, role, environments, created_at, expires_at, revoked_at, last_used_at
"""
_INSERT = f"""
INSERT INTO billhook.api_keys (kind, key_hash, hint, name, role, environments, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (key_hash) DO NOTHING
RETURNING {_COLUMNS}
"""  # noqa: S608
_LIST = f"SELECT {_COLUMNS} FROM billhook.api_keys ORDER BY created_at, id"  # noqa: S608
_REVOKE = f"""
UPDATE billhook.api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE id = $1 RETURNING {_COLUMNS}
"""  # noqa: S608
# The new key has the same rights and, if the old one expires, the same lifetime.
_SUCCEED = f"""
INSERT INTO billhook.api_keys (kind, key_hash, hint, name, role, environments, expires_at)
SELECT kind, $2, $3, name, role, environments, now() + (expires_at - created_at)
FROM billhook.api_keys
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING {_COLUMNS}
"""  # noqa: S608
_RETIRE = """
UPDATE billhook.api_keys SET expires_at = least(expires_at, now() + $2::interval) WHERE id = $1
"""
# The time of use is written once a minute at most: requests must not wait for one row.
_FIND = """
WITH found AS (
    SELECT id, hint, name, role, environments, last_used_at FROM billhook.api_keys
    WHERE key_hash = $1 AND kind = $2 AND revoked_at IS NULL
      AND (expires_at IS NULL OR expires_at > now())
), used AS (
    UPDATE billhook.api_keys AS k SET last_used_at = now() FROM found
    WHERE k.id = found.id
      AND (found.last_used_at IS NULL OR found.last_used_at < now() - interval '1 minute')
)
SELECT id, hint, name, role, environments FROM found
"""
_ANY_VALID = """
SELECT EXISTS (
    SELECT FROM billhook.api_keys
    WHERE kind = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
      AND role = 'admin' AND pg_catalog.arraycontains(environments, '{test,live}')
)
"""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key, without the key itself, which is not stored."""

    id: UUID
    kind: Kind
    hint: str
    name: str | None
    role: KeyRole
    environments: tuple[Environment, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None


class ApiKeys:
    """Creates, lists, revokes and checks keys.

    A valid key is cached in this process for `ttl` seconds, so a revoked key may continue to work
    for that long. Unknown keys are not cached.
    """

    def __init__(
        self,
        database: Database,
        store: SecretStore,
        *,
        ttl: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._store = store
        self._ttl = ttl
        self._clock = clock
        self._valid: dict[tuple[Kind, bytes], tuple[float, Grant]] = {}
        self._insforge: dict[Kind, tuple[float, list[tuple[bytes, datetime | None]]]] = {}

    async def create(
        self,
        kind: Kind,
        *,
        name: str | None = None,
        role: KeyRole = "admin",
        environments: Iterable[Environment] = ENVIRONMENTS,
        expires_at: datetime | None = None,
    ) -> tuple[ApiKey, str]:
        """Create a key. The second value is the key itself, which is never available again.

        Args:
            role, environments: of an admin key; an anonymous key has none.
        """
        key = _random_key(kind)
        stored = await self._insert(kind, key, name, expires_at, role, environments)
        if stored is None:  # a collision of 192 random bits
            raise RuntimeError("the random source repeats itself")
        return stored, key

    async def all(self) -> list[ApiKey]:
        """All keys, including revoked ones, oldest first."""
        async with self._database.connection() as connection:
            return [_api_key(row) for row in await connection.fetch(_LIST)]

    async def revoke(self, key_id: UUID) -> ApiKey:
        """Revoke a key permanently. Revoking it again changes nothing.

        Raises:
            NotFound: there is no such key.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_REVOKE, key_id)
        if row is None:
            raise NotFound(f"There is no key {key_id}.", next_actions="See `billhook keys list`.")
        self._valid.clear()
        return _api_key(row)

    async def rotate(self, key_id: UUID, overlap: timedelta) -> tuple[ApiKey, str]:
        """Create a key with the same name, role, environments and lifetime, and let the old one
        expire after `overlap`.

        Raises:
            NotFound: there is no such key, or it is no longer valid.
        """
        async with self._database.connection() as connection, connection.transaction():
            kind = await connection.fetchval(
                "SELECT kind FROM billhook.api_keys WHERE id = $1 FOR UPDATE", key_id
            )
            key = _random_key(kind or "admin")
            row = await connection.fetchrow(_SUCCEED, key_id, hash_of(key), mask(key))
            if row is None:
                raise NotFound(
                    f"There is no valid key {key_id}.", next_actions="See `billhook keys list`."
                )
            await connection.execute(_RETIRE, key_id, overlap)
        self._valid.clear()
        return _api_key(row), key

    async def is_valid(self, kind: Kind, key: str) -> bool:
        """Whether `key` is a valid key of that kind, Billhook's or an adopted one of InsForge."""
        return await self.grant(kind, hash_of(key)) is not None

    async def grant(self, kind: Kind, digest: bytes) -> Grant | None:
        """What the key with this hash may do; None if there is no such key, or it is not valid."""
        now = self._clock()
        until, known = self._valid.get((kind, digest), (float("-inf"), None))
        if until > now:
            return known
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, digest, kind)
        if row is not None:
            name = f"{row['name']} ({row['hint']})" if row["name"] else row["hint"]
            found = Grant(name, row["role"], tuple(row["environments"]), row["id"])
        elif await self._is_insforge(kind, digest, now):
            found = Grant("InsForge's key")
        else:
            return None
        # Bounded, so that an app with very many keys cannot fill the memory.
        if len(self._valid) >= 1000:
            self._valid.clear()
        self._valid[kind, digest] = (now + self._ttl, found)
        return found

    async def seed(self, settings: Settings) -> None:
        """Store the keys from the settings if there is no valid key of their kind with all rights.

        A revoked key stays revoked, even if it is still in the settings.
        """
        wanted: dict[Kind, SecretStr | None] = {
            "admin": settings.access_api_key,
            "anonymous": settings.access_anon_key,
        }
        for kind, secret in wanted.items():
            if secret is not None and not await self.has_any(kind):
                await self._insert(kind, secret.get_secret_value(), "from the settings", None)

    async def has_any(self, kind: Kind) -> bool:
        """Whether there is a valid key of that kind with all rights."""
        async with self._database.connection() as connection:
            found = bool(await connection.fetchval(_ANY_VALID, kind))
        return found or bool(await self._read_insforge(kind))

    async def _insert(
        self,
        kind: Kind,
        key: str,
        name: str | None,
        expires_at: datetime | None,
        role: KeyRole = "admin",
        environments: Iterable[Environment] = ENVIRONMENTS,
    ) -> ApiKey | None:
        values = (kind, hash_of(key), mask(key), name, role, list(environments), expires_at)
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_INSERT, *values)
        return None if row is None else _api_key(row)

    async def _is_insforge(self, kind: Kind, digest: bytes, now: float) -> bool:
        read_at, known = self._insforge.get(kind, (float("-inf"), []))
        if read_at + self._ttl <= now:
            known = await self._read_insforge(kind)
            self._insforge[kind] = (now, known)
        wall = datetime.now(UTC)
        matches = False
        for candidate, expires_at in known:
            is_it = hmac.compare_digest(candidate, digest)
            matches |= is_it and (expires_at is None or expires_at > wall)
        return matches

    async def guessable(self) -> list[str]:
        """The names of InsForge's keys that are not accepted because they are easy to guess."""
        return [
            secret.name
            for kind in PREFIXES
            for secret in await self._adopted(kind)
            if _is_guessable(kind, secret)
        ]

    async def _read_insforge(self, kind: Kind) -> list[tuple[bytes, datetime | None]]:
        found = []
        for secret in await self._adopted(kind):
            if _is_guessable(kind, secret):
                _log.warning(
                    "an InsForge key is easy to guess and is not accepted", key=secret.name
                )
            else:
                found.append((hash_of(secret.value), secret.expires_at))
        return found

    async def _adopted(self, kind: Kind) -> list[StoredSecret]:
        try:
            found = await self._store.get_with_old(_INSFORGE_NAMES[kind])
        except SecretUnreadable as error:
            # Billhook's own keys continue to work; the log has the reason, but not the key.
            _log.warning("an InsForge key cannot be read", reason=error.message)
            return []
        return [secret for secret in found if secret.value.startswith(PREFIXES[kind])]


def _is_guessable(kind: Kind, secret: StoredSecret) -> bool:
    return why_guessable(secret.value.removeprefix(PREFIXES[kind])) is not None


def _random_key(kind: Kind) -> str:
    return PREFIXES[kind] + random.token_hex(24)


def _api_key(row: asyncpg.Record) -> ApiKey:
    return ApiKey(**{**dict(row), "environments": tuple(row["environments"])})


def hash_of(key: str) -> bytes:
    """The hash of a key."""
    return sha256(key.encode()).digest()
