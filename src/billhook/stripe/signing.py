"""The signing secrets that are valid now, and the verification of webhooks with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from billhook.errors import BillhookError, SecretUnreadable
from billhook.secrets import SecretStore, webhook_secret_name
from billhook.settings import Environment, Settings
from billhook.stripe.signature import SignatureHeader, SignatureMismatch, verify


@dataclass(frozen=True, slots=True)
class _Valid:
    """The secrets of an account, as they were read."""

    read_at: float
    account: str
    secrets: tuple[str, ...]


class SigningSecrets:
    """The webhook signing secrets that are valid now, without a query per webhook.

    They come from the store (the managed endpoint's, and after a rotation the previous one until
    it expires) and from the settings (an endpoint that you manage). The store's are cached for
    `ttl` seconds. A signature that matches none of them is checked again after a fresh read, so
    that a new secret works immediately in every process; an old one stops working within `ttl`.

    Secrets are valid for the account that was connected when they were read.

    Args:
        account_of: the account that is connected, if known.
    """

    def __init__(
        self,
        store: SecretStore,
        settings: Settings,
        account_of: Callable[[Environment], Awaitable[str | None]],
        *,
        ttl: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._settings = settings
        self._account_of = account_of
        self._ttl = ttl
        self._clock = clock
        self._read: dict[Environment, _Valid] = {}
        self._reading = asyncio.Lock()

    async def verify(
        self,
        environment: Environment,
        payload: bytes,
        header: SignatureHeader,
        *,
        fresh: bool = False,
    ) -> str:
        """Check the signature on a webhook (contract section 3.1).

        Args:
            fresh: with secrets that are read now.

        Returns:
            The account for which it is valid; empty if none is known.

        Raises:
            InvalidInput: made with another secret.
            BillhookError: 500, no signing secret is configured for `environment`.
            DatabaseUnavailable: the secrets cannot be read just now.
        """
        asked_at = self._clock()
        valid = await self._secrets(environment, asked_at, bypass=fresh)
        try:
            verify(payload, header, valid.secrets)
        except SignatureMismatch:
            valid = await self._secrets(environment, asked_at, bypass=True)
            verify(payload, header, valid.secrets)
        return valid.account

    async def _secrets(
        self, environment: Environment, asked_at: float, *, bypass: bool = False
    ) -> _Valid:
        """The valid secrets, read no earlier than `asked_at` when `bypass` is set."""
        oldest = asked_at if bypass else asked_at - self._ttl
        known = self._known(environment, oldest)
        if known is None:
            # Many webhooks at once share one read.
            async with self._reading:
                known = self._known(environment, oldest) or await self._load(environment)
        return known

    def _known(self, environment: Environment, oldest: float) -> _Valid | None:
        known = self._read.get(environment)
        return known if known is not None and known.read_at > oldest else None

    async def _load(self, environment: Environment) -> _Valid:
        read_at = self._clock()
        # First: the secrets of an account are revoked when another one is connected.
        account = await self._account_of(environment) or ""
        name = webhook_secret_name(environment)
        found = list(self._settings.stripe_webhook_secrets(environment))
        try:
            found += [secret.value for secret in await self._store.get_with_old(name)]
        except SecretUnreadable:
            if not found:
                raise
        secrets = tuple(dict.fromkeys(found))
        if not secrets:
            raise BillhookError(
                f"No webhook signing secret is configured for the {environment} environment.",
                next_actions=f"Set {name} to the endpoint's signing secret (whsec_…), or let "
                "Billhook manage the endpoint: set a Stripe key and BILLHOOK_PUBLIC_URL.",
            )
        self._read[environment] = valid = _Valid(read_at, account, secrets)
        return valid
