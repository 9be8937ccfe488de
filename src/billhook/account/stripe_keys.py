"""Setting and removing a Stripe key (contract section 5, "Set a key", "Remove a key").

A key is checked with Stripe before anything is stored. Each step can be repeated: after a crash,
completed steps are detected and not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress

import asyncpg
import structlog

from billhook.access.secrets import SecretStore
from billhook.account import endpoint_events
from billhook.account.connections import Connections
from billhook.account.endpoint import WebhookEndpoint
from billhook.credentials import problem_of_stripe_key, trimmed
from billhook.errors import BillhookError, NotFound, PaymentConfigInvalid, SecretUnreadable
from billhook.kinds import KINDS
from billhook.models import Connection, EndpointEvents
from billhook.postgres import Database
from billhook.postgres.leases import lease
from billhook.postgres.refusals import reason_of
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, Gateway

log = structlog.get_logger(__name__)

_SYNC_PATIENCE = 20.0
"""Seconds that setting a key waits for the sync, which then continues in the background."""

# The permissions that Billhook needs, and a request for each that changes nothing: Stripe checks
# permissions before parameters, and these requests have none. Stripe's documentation does not
# confirm this, so a key that passes may still be rejected later, with Stripe's message.
_READS: Mapping[str, str] = {
    **{f"{kind.plural.replace('_', ' ').title()}: read": kind.path for kind in KINDS.values()},
    "Events: read": "/v1/events",
    "PaymentIntents: read": "/v1/payment_intents",
    "Charges: read": "/v1/charges",
    "Refunds: read": "/v1/refunds",
    "Invoice Payments: read": "/v1/invoice_payments",
}
_WRITES: Mapping[str, str] = {
    "Products: write": "/v1/products",
    "Prices: write": "/v1/prices",
    "Checkout Sessions: write": "/v1/checkout/sessions",
    "Customer portal: write": "/v1/billing_portal/sessions",
    "Webhook Endpoints: write": "/v1/webhook_endpoints",
}


class ConfigNotFound(NotFound):
    """404: the environment has no key."""

    code = "PAYMENT_CONFIG_NOT_FOUND"


class AnotherAccount(PaymentConfigInvalid):
    """409: the key belongs to another account than the connected one. Nothing was changed."""

    status = 409


class StripeKeys:
    """The Stripe keys of both environments. One change at a time, across all processes.

    Args:
        sync: syncs an environment, and returns when that has ended.
    """

    def __init__(
        self,
        database: Database,
        secrets: SecretStore,
        gateway: Gateway,
        connections: Connections,
        endpoint: WebhookEndpoint,
        sync: Callable[[Environment], Awaitable[object]],
    ) -> None:
        self._database = database
        self._secrets = secrets
        self._gateway = gateway
        self._connections = connections
        self._endpoint = endpoint
        self._sync = sync

    async def set(
        self,
        environment: Environment,
        value: str,
        *,
        replace_account: bool = True,
        sync: bool = True,
    ) -> BillhookError | None:
        """Check a key with Stripe, store it, set up the endpoint and sync.

        The same key again does nothing; a new key of the same account is stored; another account's
        key archives the rows of the previous account.

        Args:
            replace_account: whether it may belong to another account than the connected one.
            sync: whether to also sync, and wait for it for a while.

        Returns:
            Why the endpoint could not be set up, if it should have been; the key is stored.

        Raises:
            AnotherAccount: it belongs to another account, and `replace_account` is false.
            PaymentConfigInvalid: it is of the other mode, malformed, rejected by Stripe, or
            restricted; missing permissions are named.
            UpstreamFailure: a request to Stripe failed. Nothing was changed.
            Busy: another change of the environment's key takes longer than 25 seconds.
            DatabaseRefused: a rule of the app (a foreign key, a trigger) rejected the account. No
            rows were changed, but a managed endpoint of the previous account may be deleted:
            `configure_webhook` creates it again.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        key = trimmed(value)
        if reason := problem_of_stripe_key(environment, key):
            raise PaymentConfigInvalid(
                f"This {reason}.",
                next_actions=f"Use a key that begins with sk_{environment}_ or rk_{environment}_.",
            )
        async with lease(self._database, f"stripe key:{environment}"):
            before = await self._stored(environment)
            account_before = await self._connections.account_id(environment)
            if before == key and account_before is not None:
                return None
            account = await self._gateway.account(environment, key=key)
            if not replace_account and account_before not in (None, account.data["id"]):
                raise AnotherAccount(
                    f"The key belongs to another account: {account.data['id']}, but "
                    f"{account_before} is connected in {environment}.",
                    next_actions="Connecting it archives the rows of the current account, which "
                    "can be restored. Set the key with replaceAccount to continue.",
                )
            await self._check_permissions(environment, key)
            if before is not None and account_before == account.data["id"]:
                await self._connections.connected(environment, account, key=key)
                return None
            problem = await self._switch(environment, key, account, before, account_before)
        if sync:
            await self.wait_for_sync(environment)
        return problem

    async def remove(self, environment: Environment) -> None:
        """Delete the managed endpoint, and forget the key. Mirrored rows stay.

        Raises:
            ConfigNotFound: there is no key.
            Busy: another change of the environment's key takes longer than 25 seconds.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        async with lease(self._database, f"stripe key:{environment}"):
            if await self._stored(environment) is not None:
                await self._endpoint.remove(environment)
            if not await self._connections.removed(environment):
                raise ConfigNotFound(
                    f"No Stripe key is configured for the {environment} environment.",
                    next_actions="There is no key to remove.",
                )

    async def configure_webhook(self, environment: Environment) -> Connection:
        """Create or fix the managed endpoint.

        Raises:
            PaymentConfigInvalid: no key, no public URL, or a key without the permission.
            UpstreamFailure: Stripe refuses the endpoint.
            Busy: another change of the environment's key takes longer than 25 seconds.
            DatabaseRefused: a rule of the app (a foreign key, a trigger) rejected the account.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        async with lease(self._database, f"stripe key:{environment}"):
            account = await self._gateway.account(environment)
            await self._connections.connected(environment, account)
            await self._endpoint.ensure(environment)
        return await self._connections.get(environment)

    async def events(self, environment: Environment) -> EndpointEvents:
        """The event types that Billhook receives."""
        types = await endpoint_events.received(self._database, environment)
        return EndpointEvents(always=list(endpoint_events.EVENTS), added=sorted(types.added))

    async def add_events(self, environment: Environment, types: Sequence[str]) -> EndpointEvents:
        """Receive more event types, and tell the managed endpoint, if there is one.

        Raises:
            InvalidInput: Stripe has no such event type.
            UpstreamFailure, PaymentConfigInvalid: the types are stored, but Stripe refused to
                change the endpoint: `configure_webhook` tries again.
            Busy: another change of the environment's key takes longer than 25 seconds.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        endpoint_events.check(types)
        return await self._change_events(environment, endpoint_events.add, types)

    async def remove_events(self, environment: Environment, types: Sequence[str]) -> EndpointEvents:
        """Stop receiving types that were added. Recorded events are kept. Raises as `add_events`;
        InvalidInput: Billhook itself needs a type."""
        return await self._change_events(environment, endpoint_events.remove, types)

    async def _change_events(
        self,
        environment: Environment,
        change: Callable[[Database, Environment, Sequence[str]], Awaitable[None]],
        types: Sequence[str],
    ) -> EndpointEvents:
        async with lease(self._database, f"stripe key:{environment}"):
            await change(self._database, environment, types)
            if self._endpoint.url(environment) and await self._stored(environment):
                await self._endpoint.ensure(environment)
        return await self.events(environment)

    async def prepare(self, environment: Environment, *, seeded: bool) -> None:
        """At startup: finish interrupted work, and connect a key from the settings.

        Errors of Stripe and PostgreSQL are logged, not raised: the server starts without Stripe,
        and the other environment is still prepared.
        """
        try:
            if await self._stored(environment) is None:
                return
            if self._endpoint.url(environment) is not None:
                await self.configure_webhook(environment)
            if seeded or (await self._connections.account_id(environment)) is None:
                await self._sync(environment)
        except BillhookError as error:
            log.warning(
                "the Stripe connection has a problem",
                environment=environment,
                reason=error.message,
                next_actions=error.next_actions,
            )
        except asyncpg.PostgresError as error:
            log.warning(
                "the Stripe connection has a problem",
                environment=environment,
                reason=reason_of(error),
                next_actions="Fix the app's trigger, if it is one, and start again.",
            )

    async def wait_for_sync(self, environment: Environment) -> None:
        """Sync, and wait for it for a limited time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_SYNC_PATIENCE):
                await self._sync(environment)

    async def _stored(self, environment: Environment) -> str | None:
        try:
            return await self._secrets.stripe_key(environment)
        except SecretUnreadable:
            return None  # to be replaced

    async def _switch(
        self,
        environment: Environment,
        key: str,
        account: Fetched,
        before: str | None,
        account_before: str | None,
    ) -> BillhookError | None:
        """Store the key of a newly connected account. Returns as `set`."""
        if before is not None and account_before not in (None, account.data["id"]):
            await self._endpoint.remove(environment, key=before)
        await self._connections.connected(environment, account, key=key)
        if self._endpoint.url(environment) is None:
            return None
        try:
            await self._endpoint.ensure(environment)
        except BillhookError as error:
            log.warning(
                "the webhook endpoint could not be set up",
                environment=environment,
                reason=error.message,
                next_actions=error.next_actions,
            )
            return error
        return None

    async def _check_permissions(self, environment: Environment, key: str) -> None:
        """Find the missing permissions of a restricted key. A secret key has them all.

        Raises:
            PaymentConfigInvalid: something is missing.
        """
        if not key.startswith("rk_"):
            return
        probes = [
            *(
                (name, self._gateway.get(environment, path, {"limit": 1}, key=key))
                for name, path in _READS.items()
            ),
            *(
                (name, self._gateway.post(environment, path, {}, key=key))
                for name, path in _WRITES.items()
            ),
        ]
        answers = await asyncio.gather(*(probe for _, probe in probes), return_exceptions=True)
        missing = []
        for (name, _), answer in zip(probes, answers, strict=True):
            if isinstance(answer, PaymentConfigInvalid):
                missing.append(name)
            elif isinstance(answer, BaseException) and not _asked_wrongly(answer):
                raise answer
        if missing:
            raise PaymentConfigInvalid(
                f"The restricted key lacks permissions: {', '.join(missing)}.",
                next_actions="Add them to the key in Stripe's Dashboard (Developers, API keys), "
                "and set it again.",
            )


def _asked_wrongly(answer: BaseException) -> bool:
    """Whether Stripe checked the parameters, which means that the key has the permission."""
    return isinstance(answer, BillhookError) and answer.status in (400, 402, 404)
