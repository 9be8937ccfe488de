"""The encrypted store over `system.secrets` (contract section 4).

A value is written as ``bh1.<key id>.<base64url of nonce + ciphertext + tag>``: AES-256-GCM under a
key derived from `ENCRYPTION_KEY` (else `JWT_SECRET`), with the secret's name as associated data,
so that one secret's ciphertext can't be passed off as another's. InsForge's own format is read
too. No value is ever part of an error, a log line or a repr.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

import asyncpg
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from billhook.errors import SecretUnreadable
from billhook.postgres import Connection, Database
from billhook.redact import mask
from billhook.settings import ENVIRONMENTS, Environment, Settings

__all__ = ["Cipher", "Reencryption", "SecretStore", "StoredSecret", "mask"]

_log = structlog.get_logger(__name__)

_PREFIX = "bh1"
_NONCE = 12
_KEYS_OF_INSFORGE = ("API_KEY", "ANON_KEY")
_INSFORGE = re.compile(r"([0-9a-f]{32}):([0-9a-f]{32}):((?:[0-9a-f]{2})*)", re.IGNORECASE)

_GET = """
SELECT key, value_ciphertext, is_active, expires_at FROM system.secrets
WHERE key = $1 AND is_active AND (expires_at IS NULL OR expires_at > now())
"""
_GET_ANY_STATE = "SELECT value_ciphertext, is_active FROM system.secrets WHERE key = $1"
# `name` itself and its previous values after a rotation: `name_OLD_…`, valid until they expire.
_GET_WITH_OLD = """
SELECT key, value_ciphertext, is_active, expires_at FROM system.secrets
WHERE (key = $1 OR key LIKE $2) AND is_active AND (expires_at IS NULL OR expires_at > now())
ORDER BY key
"""
_SET = """
INSERT INTO system.secrets (key, value_ciphertext, is_active, is_reserved, expires_at)
VALUES ($1, $2, true, true, $3)
ON CONFLICT (key) DO UPDATE
SET value_ciphertext = excluded.value_ciphertext, is_active = true, is_reserved = true,
    expires_at = excluded.expires_at, updated_at = now()
"""
# Several processes may store it at once: the first one's value stays.
_SEED = """
INSERT INTO system.secrets (key, value_ciphertext, is_active, is_reserved)
VALUES ($1, $2, true, true)
ON CONFLICT (key) DO UPDATE
SET value_ciphertext = excluded.value_ciphertext, is_active = true, updated_at = now()
WHERE NOT secrets.is_active AND secrets.value_ciphertext IS NOT DISTINCT FROM $3
"""
_KEEP_OLD = """
INSERT INTO system.secrets (key, value_ciphertext, is_active, is_reserved, expires_at)
VALUES ($1, $2, true, true, now() + $3::interval) ON CONFLICT (key) DO NOTHING
"""
_DEACTIVATE = """
UPDATE system.secrets SET is_active = false, updated_at = now()
WHERE (key = $1 OR key LIKE $2) AND is_active
"""
# Only these: InsForge's other secrets may still be used by other services of the same database.
_OURS = """
SELECT key, value_ciphertext FROM system.secrets
WHERE key ~ '^STRIPE_(TEST|LIVE)_(SECRET_KEY|WEBHOOK_SECRET)(_OLD_.*)?$'
   OR key ~ '^(API_KEY|ANON_KEY)(_OLD_.*)?$'
"""
_REENCRYPT = """
UPDATE system.secrets SET value_ciphertext = $3 WHERE key = $1 AND value_ciphertext = $2
RETURNING true
"""


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """A decrypted secret. `value` stays out of the repr."""

    name: str
    value: str
    expires_at: datetime | None

    def __repr__(self) -> str:
        return f"StoredSecret({self.name!r}, {mask(self.value)!r})"


@dataclass(frozen=True, slots=True)
class Reencryption:
    """How many secrets `reencrypt_all` re-encrypted, and the names of those it could not read."""

    reencrypted: int
    unreadable: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Examination:
    """How many secrets an earlier key encrypted, and the names of those that cannot be read."""

    earlier: int
    unreadable: tuple[str, ...]


class Cipher:
    """Encrypts with the current key, and decrypts with the current or a previous key."""

    def __init__(self, current: str, *earlier: str) -> None:
        self._keys: dict[str, AESGCM] = {}
        self._insforge: list[AESGCM] = []
        for material in dict.fromkeys((current, *earlier)):
            key = _derive(material, b"billhook secret store key")
            self._keys[_derive(material, b"billhook secret store key id")[:4].hex()] = AESGCM(key)
            self._insforge.append(AESGCM(sha256(material.encode()).digest()))
        self.key_id = next(iter(self._keys))

    def encrypt(self, name: str, value: str) -> str:
        """`value` under the current key, bound to `name`."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + self._keys[self.key_id].encrypt(nonce, value.encode(), name.encode())
        return f"{_PREFIX}.{self.key_id}.{base64.urlsafe_b64encode(sealed).decode().rstrip('=')}"

    def is_current(self, name: str, ciphertext: str) -> bool:
        """Whether the current key encrypted it, in the format in which it should be: Billhook's, or
        InsForge's for the keys that InsForge itself needs to start."""
        if ciphertext.startswith(f"{_PREFIX}.{self.key_id}."):
            return True
        return (
            name.startswith(_KEYS_OF_INSFORGE)
            and _opened(self._insforge[0], ciphertext) is not None
        )

    def decrypt(self, name: str, ciphertext: str) -> str:
        """The value of `name`.

        Raises:
            SecretUnreadable: unknown key, foreign format, or tampered with.
        """
        prefix, _, rest = ciphertext.partition(".")
        if prefix == _PREFIX:
            return self._decrypt_ours(name, *rest.partition(".")[::2])
        if _INSFORGE.fullmatch(ciphertext) is None:
            raise _unreadable(name, "its format is unknown")
        for key in self._insforge:
            if (value := _opened(key, ciphertext)) is not None:
                return value
        raise _unreadable(name, "InsForge encrypted it with another key")

    def _decrypt_ours(self, name: str, key_id: str, encoded: str) -> str:
        key = self._keys.get(key_id)
        if key is None:
            raise _unreadable(name, f"it was encrypted with another key (key id {key_id[:16]})")
        try:
            sealed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), b"-_", validate=True)
            return key.decrypt(sealed[:_NONCE], sealed[_NONCE:], name.encode()).decode()
        except (InvalidTag, ValueError, binascii.Error) as error:
            raise _unreadable(name, "it was changed after it was stored") from error


def _opened(key: AESGCM, ciphertext: str) -> str | None:
    """The value of a ciphertext in InsForge's format; None if it is none of this key's."""
    match = _INSFORGE.fullmatch(ciphertext)
    if match is None:
        return None
    nonce, tag, sealed = (bytes.fromhex(part) for part in match.groups())
    try:
        return key.decrypt(nonce, sealed + tag, None).decode()
    except (InvalidTag, UnicodeDecodeError):
        return None


def _derive(material: str, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=purpose).derive(material.encode())


def _unreadable(name: str, reason: str) -> SecretUnreadable:
    return SecretUnreadable(
        f"The stored secret {name} cannot be read: {reason}.",
        next_actions="Set ENCRYPTION_KEY (else JWT_SECRET) or ENCRYPTION_KEY_PREVIOUS to the key "
        f"that it was stored with and restart, or set {name} again.",
    )


class SecretStore:
    """`system.secrets`, decrypted. Every read is one query; nothing is cached here."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self.cipher = Cipher(settings.encryption_secret, *settings.earlier_encryption_secrets)

    async def get(self, name: str) -> StoredSecret | None:
        """The active, unexpired secret `name`, or None.

        Raises:
            SecretUnreadable: it cannot be decrypted.
        """
        async with self._database.connection() as connection:
            row = await connection.fetchrow(_GET, name)
        return None if row is None else self._open(row["key"], row)

    async def get_with_old(self, name: str) -> list[StoredSecret]:
        """`name` and its `name_OLD_…` that are still valid, the current one first.

        Raises:
            SecretUnreadable: there are some, but none can be decrypted. If only some cannot be
                decrypted, they are logged and left out.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(_GET_WITH_OLD, name, _old_names(name))
        found, unreadable = [], None
        for row in rows:
            try:
                found.append(self._open(row["key"], row))
            except SecretUnreadable as error:
                unreadable = error
                _log.warning("a stored secret cannot be read", secret=row["key"])
        if unreadable is not None and not found:
            raise unreadable
        return found

    async def set(self, name: str, value: str, *, expires_at: datetime | None = None) -> None:
        """Store `value` under `name`, replacing the previous value, and activate it."""
        async with self._database.connection() as connection:
            await connection.execute(_SET, name, self.cipher.encrypt(name, value), expires_at)

    async def set_in(self, connection: Connection, name: str, value: str) -> None:
        """`set`, as a part of the connection's transaction."""
        await connection.execute(_SET, name, self.cipher.encrypt(name, value), None)

    async def rotate(self, name: str, value: str, *, keep_old: timedelta) -> None:
        """Store `value` under `name`; the previous value stays valid for `keep_old`."""
        async with self._database.as_service() as connection:
            row = await connection.fetchrow(_GET, name)
            if row is not None:
                with suppress(SecretUnreadable):  # then it is useless
                    old_name = f"{name}_OLD_{uuid4().hex}"
                    old = self.cipher.decrypt(name, row["value_ciphertext"])
                    await connection.execute(
                        _KEEP_OLD, old_name, self.cipher.encrypt(old_name, old), keep_old
                    )
            await connection.execute(_SET, name, self.cipher.encrypt(name, value), None)

    async def deactivate_in(self, connection: Connection, name: str) -> bool:
        """Make `name` and its rotated versions invalid, as a part of the connection's transaction.
        The rows stay. False if none was active."""
        done = await connection.execute(_DEACTIVATE, name, _old_names(name))
        return not done.endswith(" 0")

    async def stripe_key(self, environment: Environment) -> str | None:
        """The Stripe key of `environment`, or None if there is none."""
        secret = await self.get(stripe_key_name(environment))
        return secret.value if secret else None

    async def seed(self) -> list[Environment]:
        """Store the Stripe keys from the settings if none is stored (contract section 4). Returns
        the environments whose key was stored.

        A key that was removed on purpose does not return after a restart with the same variable;
        a different value counts as a new decision. A stored key is not replaced; a warning is
        logged.
        """
        seeded = []
        for environment in ENVIRONMENTS:
            value = self._settings.stripe_secret_key(environment)
            if value is None:
                continue
            if await self._seed(stripe_key_name(environment), value):
                seeded.append(environment)
            else:
                await self._warn_of_another(environment, value)
        return seeded

    async def would_seed(self, environment: Environment) -> bool:
        """Whether `seed` would store the key that the settings have for `environment`."""
        value = self._settings.stripe_secret_key(environment)
        if value is None:
            return False
        name = stripe_key_name(environment)
        return self._is_seedable(name, value, await self._in_any_state(name))

    async def _warn_of_another(self, environment: Environment, value: str) -> None:
        with suppress(SecretUnreadable):  # which was logged
            stored = await self.stripe_key(environment)
            if stored is not None and stored != value:
                _log.warning(
                    "the environment has another Stripe key than the stored one; that stays in use",
                    setting=stripe_key_name(environment),
                    given=mask(value),
                    stored=mask(stored),
                    next_actions=f"To change it: billhook config set --environment {environment}",
                )

    async def _seed(self, name: str, value: str) -> bool:
        row = await self._in_any_state(name)
        if not self._is_seedable(name, value, row):
            return False
        stored = row["value_ciphertext"] if row else None
        async with self._database.connection() as connection:
            done = await connection.execute(_SEED, name, self.cipher.encrypt(name, value), stored)
        return done.endswith(" 1")

    async def _in_any_state(self, name: str) -> asyncpg.Record | None:
        async with self._database.connection() as connection:
            return await connection.fetchrow(_GET_ANY_STATE, name)

    def _is_seedable(self, name: str, value: str, row: asyncpg.Record | None) -> bool:
        """Neither is another value active, nor was this one removed on purpose."""
        if row is None:
            return True
        return not row["is_active"] and not self._is(name, row["value_ciphertext"], value)

    def _is(self, name: str, ciphertext: str, value: str) -> bool:
        try:
            return self.cipher.decrypt(name, ciphertext) == value
        except SecretUnreadable:
            return False

    async def examine(self) -> Examination:
        """Check all of Billhook's secrets, without changing any."""
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OURS)
        earlier, unreadable = 0, []
        for row in rows:
            try:
                self.cipher.decrypt(row["key"], row["value_ciphertext"])
            except SecretUnreadable:
                unreadable.append(row["key"])
            else:
                earlier += not self.cipher.is_current(row["key"], row["value_ciphertext"])
        return Examination(earlier, tuple(unreadable))

    async def reencrypt_all(self) -> Reencryption:
        """Re-encrypt Billhook's secrets that are not encrypted with the current key.

        These are InsForge's, except for the keys that it needs to start, and those of an earlier
        key. Safe to run at any time and from several processes: a value that changes concurrently
        stays as it is. Unreadable secrets are left alone and reported.
        """
        async with self._database.connection() as connection:
            rows = await connection.fetch(_OURS)
        done, unreadable = 0, []
        for row in rows:
            name, old = row["key"], row["value_ciphertext"]
            if self.cipher.is_current(name, old):
                continue
            try:
                new = self.cipher.encrypt(name, self.cipher.decrypt(name, old))
            except SecretUnreadable:
                unreadable.append(name)
                continue
            async with self._database.connection() as connection:
                done += bool(await connection.fetchval(_REENCRYPT, name, old, new))
        return Reencryption(done, tuple(unreadable))

    def _open(self, name: str, row: asyncpg.Record) -> StoredSecret:
        value = self.cipher.decrypt(name, row["value_ciphertext"])
        return StoredSecret(name, value, row["expires_at"])


def _old_names(name: str) -> str:
    """A LIKE pattern for rotated versions."""
    return name.replace("_", r"\_") + r"\_OLD\_%"


def stripe_key_name(environment: Environment) -> str:
    """The name of the Stripe key of `environment` in the store."""
    return f"STRIPE_{environment.upper()}_SECRET_KEY"


def webhook_secret_name(environment: Environment) -> str:
    """The name of the signing secret of `environment` in the store."""
    return f"STRIPE_{environment.upper()}_WEBHOOK_SECRET"
