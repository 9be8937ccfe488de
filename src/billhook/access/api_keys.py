"""Admin keys (`ik_…`) and anonymous keys (`anon_…`), stored as SHA-256 hashes.

A key is shown once, when it is created. It has 192 random bits, so a plain hash is enough: it
cannot be guessed, and without a salt it can be looked up by index.
"""

from __future__ import annotations

import hmac
import secrets as random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Literal
from uuid import UUID

import structlog
from pydantic import SecretStr

from billhook.access.secrets import SecretStore, StoredSecret
from billhook.credentials import why_guessable
from billhook.errors import NotFound, SecretUnreadable
from billhook.postgres import Database
from billhook.redact import mask
from billhook.settings import Settings

Kind = Literal["admin", "anonymous"]
PREFIXES: dict[Kind, str] = {"admin": "ik_", "anonymous": "anon_"}
# Under these names InsForge keeps its keys in the secret store (contract section 4).
_INSFORGE_NAMES: dict[Kind, str] = {"admin": "API_KEY", "anonymous": "ANON_KEY"}

_INSERT = """
INSERT INTO billhook.api_keys (kind, key_hash, hint, name, expires_at)
VALUES ($1, $2, $3, $4, $5) ON CONFLICT (key_hash) DO NOTHING
RETURNING id, kind, hint, name, created_at, expires_at, revoked_at
"""
_LIST = """
SELECT id, kind, hint, name, created_at, expires_at, revoked_at
FROM billhook.api_keys ORDER BY created_at, id
"""
_REVOKE = """
UPDATE billhook.api_keys SET revoked_at = coalesce(revoked_at, now())
WHERE id = $1 RETURNING id, kind, hint, name, created_at, expires_at, revoked_at
"""
_FIND = """
SELECT expires_at FROM billhook.api_keys
WHERE key_hash = $1 AND kind = $2 AND revoked_at IS NULL
  AND (expires_at IS NULL OR expires_at > now())
"""
_ANY_VALID = """
SELECT EXISTS (
    SELECT FROM billhook.api_keys
    WHERE kind = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now())
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
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None


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
        self._valid: dict[tuple[Kind, bytes], float] = {}
        self._insforge: dict[Kind, tuple[float, list[tuple[bytes, datetime | None]]]] = {}

    async def create(
        self, kind: Kind, *, name: str | None = None, expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key. The second value is the key itself, which is never available again."""
        key = PREFIXES[kind] + random.token_hex(24)
        stored = await self._insert(kind, key, name, expires_at)
        if stored is None:  # a collision of 192 random bits
            raise RuntimeError("the random source repeats itself")
        return stored, key

    async def all(self) -> list[ApiKey]:
        """All keys, including revoked ones, oldest first."""
        async with self._database.connection() as connection:
            return [ApiKey(**row) for row in await connection.fetch(_LIST)]

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
        return ApiKey(**row)

    async def is_valid(self, kind: Kind, key: str) -> bool:
        """Whether `key` is a valid key of that kind, Billhook's or an adopted one of InsForge."""
        return await self.is_valid_hash(kind, hash_of(key))

    async def is_valid_hash(self, kind: Kind, digest: bytes) -> bool:
        """As `is_valid`, for a caller that knows only the key's hash."""
        now = self._clock()
        if self._valid.get((kind, digest), float("-inf")) > now:
            return True
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_FIND, digest, kind)
        if row is None and not await self._is_insforge(kind, digest, now):
            return False
        # Bounded, so that an app with very many keys cannot fill the memory.
        if len(self._valid) >= 1000:
            self._valid.clear()
        self._valid[kind, digest] = now + self._ttl
        return True

    async def seed(self, settings: Settings) -> None:
        """Store the keys from the settings if there is no valid key of their kind.

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
        """Whether there is a valid key of that kind."""
        async with self._database.connection() as connection:
            found = bool(await connection.fetchval(_ANY_VALID, kind))
        return found or bool(await self._read_insforge(kind))

    async def _insert(
        self, kind: Kind, key: str, name: str | None, expires_at: datetime | None
    ) -> ApiKey | None:
        async with self._database.connection() as connection:
            row = await connection.fetchrow(
                _INSERT, kind, hash_of(key), mask(key), name, expires_at
            )
        return None if row is None else ApiKey(**row)

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


def hash_of(key: str) -> bytes:
    """The hash of a key."""
    return sha256(key.encode()).digest()
