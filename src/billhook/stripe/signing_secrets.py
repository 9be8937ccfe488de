"""The signing secrets that are valid now, the accounts that they belong to, and the verification of
webhooks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256

from billhook.access.secrets import SecretStore, webhook_secret_name
from billhook.errors import BillhookError, SecretUnreadable
from billhook.postgres import Database
from billhook.postgres.accounts import connected_account
from billhook.settings import Environment, Settings
from billhook.stripe.signature import SignatureHeader, SignatureMismatch, verify
from billhook.task_groups import SharedTasks

_OWNERS = """
SELECT secret_hash, account_id FROM billhook.signing_secrets
WHERE environment = $1 AND secret_hash = ANY ($2::text[])
"""
# If another process was first, its account counts.
_OWN = """
INSERT INTO billhook.signing_secrets AS s (environment, secret_hash, account_id)
VALUES ($1, $2, $3)
ON CONFLICT (environment, secret_hash) DO UPDATE SET account_id = s.account_id
RETURNING account_id
"""


@dataclass(frozen=True, slots=True)
class _Valid:
    """The secrets that were valid when they were read.

    Attributes:
        connected: the account that was connected before they were read; empty if none.
        owners: each secret, and the account that it belongs to, if that is known.
    """

    read_at: float
    connected: str
    owners: dict[str, str | None]

    def owner(self, used: list[str]) -> str | None:
        """The account that a delivery belongs to, signed with these secrets, if that is known."""
        return next((self.owners[each] for each in used if self.owners[each]), None)


class SigningSecrets:
    """The webhook signing secrets that are valid now, without a query per webhook.

    They come from the store (the managed endpoint's, and after a rotation the previous one until
    it expires) and from the settings (an endpoint that you manage). The store's are cached for
    `ttl` seconds. A signature that matches none of them is checked again after a fresh read, so
    that a new secret works immediately in every process; an old one stops working within `ttl`.

    A secret belongs to one Stripe account: the one that was connected when a delivery was first
    verified with it. Snapshot events don't name their account, so this is the only way to identify
    it.
    """

    def __init__(
        self,
        database: Database,
        store: SecretStore,
        settings: Settings,
        *,
        ttl: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._ttl = ttl
        self._clock = clock
        self._read: dict[Environment, _Valid] = {}
        self._reads = SharedTasks(self._load)

    async def verify(
        self, environment: Environment, payload: bytes, header: SignatureHeader
    ) -> str | None:
        """Check the signature on a webhook (contract section 3.1).

        Returns:
            The account that its secret belongs to; None if no account has been connected yet.

        Raises:
            InvalidInput: made with another secret.
            BillhookError: 500, no signing secret is configured for `environment`.
            DatabaseUnavailable: the secrets cannot be read just now.
        """
        asked_at = self._clock()
        valid = await self._secrets(environment, asked_at)
        try:
            used = verify(payload, header, valid.owners)
        except SignatureMismatch:
            used = []
        if not used or not all(valid.owners[each] for each in used):
            # For a new secret or a first use, the cache is not enough: another account may be
            # connected by now.
            valid = await self._secrets(environment, asked_at, bypass=True)
            used = verify(payload, header, valid.owners)
            await self._own(environment, valid, used)
        return valid.owner(used)

    async def _own(self, environment: Environment, valid: _Valid, used: list[str]) -> None:
        """Record the account of these secrets. All secrets of one delivery belong to one
        endpoint."""
        account = valid.owner(used) or valid.connected
        for secret in used:
            if account and valid.owners[secret] is None:
                async with self._database.connection() as connection:
                    valid.owners[secret] = await connection.fetchval(
                        _OWN, environment, _hash(secret), account
                    )

    async def _secrets(
        self, environment: Environment, asked_at: float, *, bypass: bool = False
    ) -> _Valid:
        """The valid secrets, read no earlier than `asked_at` when `bypass` is set."""
        oldest = asked_at if bypass else asked_at - self._ttl
        known = self._read.get(environment)
        if known is not None and known.read_at > oldest:
            return known
        # Many webhooks at once share one read.
        found = await self._reads.result(environment)
        if found.read_at < oldest:  # it was running before: a new secret may be missing
            found = await self._reads.result(environment)
        return found

    async def _load(self, environment: Environment) -> _Valid:
        read_at = self._clock()
        # First: the secrets of an account are revoked when another one is connected.
        async with self._database.connection() as connection:
            connected = await connected_account(connection, environment)
        name = webhook_secret_name(environment)
        found = list(self._settings.stripe_webhook_secrets(environment))
        try:
            found += [secret.value for secret in await self._store.get_with_old(name)]
        except SecretUnreadable:
            if not found:
                raise
        if not found:
            raise BillhookError(
                f"No webhook signing secret is configured for the {environment} environment.",
                next_actions=f"Set {name} to the endpoint's signing secret (whsec_…), or let "
                "Billhook manage the endpoint: set a Stripe key and BILLHOOK_PUBLIC_URL.",
            )
        owners = await owners_of(self._database, environment, found)
        self._read[environment] = valid = _Valid(read_at, connected, owners)
        return valid


async def owners_of(
    database: Database, environment: Environment, secrets: Iterable[str]
) -> dict[str, str | None]:
    """Each signing secret, and the account that it belongs to, if that is known."""
    hashes = {each: _hash(each) for each in secrets}
    async with database.connection() as connection:
        rows = await connection.fetch(_OWNERS, environment, list(hashes.values()))
    known = {row["secret_hash"]: row["account_id"] for row in rows}
    return {each: known.get(hashed) for each, hashed in hashes.items()}


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
