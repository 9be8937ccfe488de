"""Reading from Stripe while a caller waits."""

from __future__ import annotations

from typing import Any

from billhook.mirror.fetching import StripeReader, reader_of_account
from billhook.postgres import Database
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, Gateway, StripeObject


class LiveReader(StripeReader):
    """A reader and writer that does not queue behind a sync or the recovery worker."""

    __slots__ = ()

    async def get(self, list_name: str, path: str, params: dict[str, Any]) -> Fetched:
        """`GET path`, immediately. Raises as `Gateway.get` does."""
        return await self.gateway.get(self.environment, path, params, key=self.key)

    async def post(self, path: str, params: StripeObject, idempotency_key: str) -> Fetched:
        """`POST path`. Raises as `Gateway.post` does."""
        return await self.gateway.post(
            self.environment, path, params, idempotency_key=idempotency_key, key=self.key
        )


async def live_reader(database: Database, gateway: Gateway, environment: Environment) -> LiveReader:
    """A reader of the connected account.

    Raises:
        PaymentConfigInvalid: there is no key.
    """
    found = await reader_of_account(database, gateway, environment)
    return LiveReader(database, gateway, environment, found.key, account=found.account)
