"""Reading from Stripe while a caller waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg

from billhook.errors import DatabaseDuplicate, DatabaseRefused, DatabaseUnavailable, Forbidden
from billhook.mirror.fetching import StripeReader, reader_of_account
from billhook.postgres import Database
from billhook.postgres.refusals import reason_of, refusal_in, refusals_of
from billhook.settings import Environment
from billhook.stripe.gateway import Fetched, Gateway, StripeObject

TRANSACTIONS = "payments.transactions"

_FIX = "Fix the rule. Billhook then writes the row when it applies Stripe's event. "
REPEAT = f"{_FIX}To write it now, send the same request again."
"""The advice after a request without an idempotency key."""
REPEAT_WITH_KEY = (
    f"{_FIX}To write it now, send the same request again, with the same idempotencyKey."
)
MOVED = f"""{REPEAT_WITH_KEY} \
A request with a new key, or without one, would move the money twice."""


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
        key = self.key or await self.gateway.key(self.environment)
        return await self.gateway.account_id(self.environment, key)

    async def get(self, list_name: str, path: str, params: dict[str, Any]) -> Fetched:
        """`GET path`, immediately. Raises as `Gateway.get` does."""
        return await self.gateway.get(self.environment, path, params, key=self.key)

    async def post(self, path: str, params: StripeObject, idempotency_key: str) -> Fetched:
        """`POST path`. Raises as `Gateway.post` does."""
        return await self.gateway.post(
            self.environment, path, params, idempotency_key=idempotency_key, key=self.key
        )


@contextmanager
def mirroring(what: str, table: str = TRANSACTIONS, next_actions: str = MOVED) -> Iterator[None]:
    """For writing a response of Stripe's.

    Args:
        what: what Stripe has now, as a clause.
        table: where it is written.
        next_actions: what to do if a rule of the app rejects it.

    Raises:
        DatabaseRefused: a rule of the app rejects the row, with whatever error; says that Stripe
            has it all the same.
        DatabaseUnavailable: PostgreSQL is unavailable.
    """
    try:
        with refusals_of(table):
            yield
    except (DatabaseDuplicate, DatabaseRefused, Forbidden) as error:
        raise rejected(what, error.message, next_actions) from error
    except (asyncpg.PostgresError, DatabaseUnavailable) as error:
        refusal = refusal_in(error)
        raise rejected(what, f"{table}: {reason_of(refusal)}", next_actions) from error


def rejected(what: str, reason: str, next_actions: str = MOVED) -> DatabaseRefused:
    """A rule of the app keeps the mirror from showing what Stripe has. Arguments as of
    `mirroring`."""
    return DatabaseRefused(
        f"{what}, but a rule of the app rejects the row: {reason}", next_actions=next_actions
    )


async def live_reader(database: Database, gateway: Gateway, environment: Environment) -> LiveReader:
    """A reader of the connected account.

    Raises:
        PaymentConfigInvalid: there is no key.
    """
    found = await reader_of_account(database, gateway, environment)
    return LiveReader(database, gateway, environment, found.key, account=found.account)
