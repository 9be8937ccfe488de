"""Reading from Stripe while a caller waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from billhook.errors import DatabaseDuplicate, DatabaseRefused, Forbidden
from billhook.mirror.fetching import StripeReader, reader_of_account
from billhook.postgres import Database
from billhook.postgres.refusals import refusals_of
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, Gateway, StripeObject


class LiveReader(StripeReader):
    """A reader and writer that does not queue behind a sync or the recovery worker."""

    __slots__ = ()

    async def account_id(self) -> str:
        """The account that requests go to, even if it has not been connected yet.

        Raises:
            PaymentConfigInvalid, RateLimited, UpstreamFailure: from Stripe.
        """
        if self.account:
            return self.account
        return str((await self.gateway.account(self.environment, key=self.key)).data["id"])

    async def get(self, list_name: str, path: str, params: dict[str, Any]) -> Fetched:
        """`GET path`, immediately. Raises as `Gateway.get` does."""
        return await self.gateway.get(self.environment, path, params, key=self.key)

    async def post(self, path: str, params: StripeObject, idempotency_key: str) -> Fetched:
        """`POST path`. Raises as `Gateway.post` does."""
        return await self.gateway.post(
            self.environment, path, params, idempotency_key=idempotency_key, key=self.key
        )


@contextmanager
def mirroring(what: str, table: str = "payments.transactions") -> Iterator[None]:
    """For writing a response of Stripe's: money has moved, or may have.

    Args:
        what: what Stripe has now.
        table: where it is written.

    Raises:
        DatabaseRefused: a rule of the app rejects the row; says that Stripe has it all the same.
    """
    try:
        with refusals_of(table):
            yield
    except (DatabaseDuplicate, DatabaseRefused, Forbidden) as error:
        raise DatabaseRefused(
            f"{what} exists at Stripe, but a rule of the app rejects its row: {error.message}",
            next_actions="Fix the rule. Then send the same request again, with its idempotencyKey "
            "if it has one; a new key would move the money twice.",
        ) from error


async def live_reader(database: Database, gateway: Gateway, environment: Environment) -> LiveReader:
    """A reader of the connected account.

    Raises:
        PaymentConfigInvalid: there is no key.
    """
    found = await reader_of_account(database, gateway, environment)
    return LiveReader(database, gateway, environment, found.key, account=found.account)
