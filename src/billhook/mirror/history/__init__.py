"""Imports the history of an account: the payments, refunds, Checkout Sessions and invoices from
before it was connected (docs/explanation/history.md).

Stripe's lists are read newest first, each in several ranges at once, under the rate governor. Their
objects are applied by the same reducers as events, in the form of the events that would have
reported them, so an import may run at any time, be interrupted, and be repeated. Every page is
written together with how far its range is read.
"""

from __future__ import annotations

import asyncio
from datetime import datetime

import asyncpg
import structlog

from billhook.errors import BillhookError, PaymentConfigInvalid
from billhook.mirror import fetching, gaps
from billhook.mirror.history import ranges
from billhook.mirror.history.progress import progress
from billhook.mirror.history.reading import read
from billhook.mirror.sync.ranges import OLDEST
from billhook.models import ImportProgress
from billhook.postgres import LONG_PATIENCE, Database, repeat_collisions
from billhook.postgres.leases import Lease, LeaseLost, try_lease
from billhook.postgres.refusals import reason_of
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway

log = structlog.get_logger(__name__)

_LOOK_EVERY = 0.25  # seconds, while another process imports, or after an error

# What the lists together left open: refunds of unknown payments, charges that returned more than
# their known refunds, paid invoices without a payment at Stripe. The refresh decides.
_QUEUE = """
INSERT INTO billhook.refreshes (environment, object_type, object_id, reason)
SELECT $1, r.object_type, r.object_id, 'the amount of its payment is not known'
FROM billhook.payment_refunds r
WHERE r.environment = $1 AND r.object_type <> 'transaction' AND NOT EXISTS (
    SELECT FROM billhook.payment_sources s
    WHERE s.payment_id = r.payment_id AND s.outcome IN ('succeeded', 'canceled'))
UNION ALL
SELECT $1, 'charge', c.object_id, 'its refunds are not known'
FROM billhook.payment_refunds c
WHERE c.environment = $1 AND c.object_type = 'charge' AND c.amount > (
    SELECT coalesce(pg_catalog.sum(r.amount), 0) FROM billhook.payment_refunds r
    WHERE r.payment_id = c.payment_id AND r.object_type = 'refund')
UNION ALL
SELECT $1, 'invoice_payments', i.object_id, 'it is not known which PaymentIntents paid it'
FROM billhook.payment_sources i
WHERE i.environment = $1 AND i.object_type = 'invoice' AND i.outcome = 'succeeded'
  AND i.amount > 0 AND NOT i.out_of_band AND NOT EXISTS (
    SELECT FROM billhook.payment_sources s
    WHERE s.payment_id = i.payment_id AND s.outcome = 'succeeded'
      AND s.object_type IN ('payment_intent', 'charge', 'invoice_payment'))
UNION ALL
SELECT $1, 'customer', m.provider_customer_id, 'it is mapped, and not mirrored'
FROM payments.customer_mappings m
WHERE m.provider = 'stripe' AND m.environment = $1 AND NOT EXISTS (
    SELECT FROM payments.customers c
    WHERE c.provider = 'stripe' AND c.environment = $1
      AND c.provider_customer_id = m.provider_customer_id)
ON CONFLICT DO NOTHING
"""


class History:
    """Imports what happened before the connection. One import runs per environment, across all
    processes.

    Args:
        automatic: whether a newly connected account is imported without a request.
    """

    def __init__(self, database: Database, gateway: Gateway, *, automatic: bool = True) -> None:
        self._database = database
        self._gateway = gateway
        self._automatic = automatic
        self._tasks: dict[Environment, asyncio.Task[None]] = {}

    async def request(self, environment: Environment, since: datetime | None) -> ImportProgress:
        """Begin an import in the background, or continue the one that is not finished.

        Args:
            since: import what was created from then on; None: everything.

        Raises:
            PaymentConfigInvalid: no key.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        await self._request(environment, since)
        task = self._tasks.get(environment)
        if task is None or task.done():
            self._tasks[environment] = asyncio.create_task(self._in_background(environment))
        return await self.progress(environment)

    async def run(self, environment: Environment, since: datetime | None = None) -> ImportProgress:
        """As `request`, and wait until it ends, unless another process runs it. Raises also as
        `continue_due` does."""
        await self._request(environment, since)
        await self._run(environment)
        return await self.progress(environment)

    async def _request(self, environment: Environment, since: datetime | None) -> None:
        await self._gateway.key(environment)
        begin = OLDEST if since is None else max(OLDEST, int(since.timestamp()))

        async def work() -> None:
            async with self._database.as_service() as connection:
                await ranges.request(connection, environment, begin)

        await repeat_collisions(work)

    async def progress(self, environment: Environment) -> ImportProgress:
        """The progress of the running import, or of the last one."""
        return await progress(self._database, environment)

    async def close(self) -> None:
        """Stop the running imports. They are continued from there."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    async def continue_due(self, environment: Environment) -> bool:
        """Run the import of an environment, if there is one to be begun or continued and no other
        process runs it. Its errors are stored, and it is continued later.

        Returns:
            Whether it ran.

        Raises:
            LeaseLost: the key was changed, or another import was requested.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        async with self._database.connection() as connection:
            gap = None
            if self._automatic:
                await ranges.automatic(connection, environment)
                gap = await gaps.import_due(connection, environment)
        if gap is not None:
            await self._fill_gap(environment)
        async with self._database.connection() as connection:
            if not await ranges.is_due(connection, environment):
                return False
        return await self._run(environment)

    async def _fill_gap(self, environment: Environment) -> None:
        """Import what a gap needs, instead of the import that does not cover it."""

        async def work() -> None:
            async with self._database.as_service() as connection:
                since = await gaps.import_due(connection, environment)
                if since is not None:
                    await ranges.request(connection, environment, since, from_scratch=True)

        await repeat_collisions(work)

    async def _in_background(self, environment: Environment) -> None:
        """Wait until the import is finished. If the process that runs it dies, continue it here."""
        while True:
            try:
                async with self._database.connection() as connection:
                    found = await ranges.find(connection, environment)
                if found is None or found["finished_at"] is not None:
                    return
                if found["is_due"]:
                    await self._run(environment)
            except LeaseLost:
                log.info("an import was stopped", environment=environment)
            except (BillhookError, asyncpg.PostgresError) as error:
                log.warning(
                    "an import was interrupted", environment=environment, reason=reason_of(error)
                )
            await asyncio.sleep(_LOOK_EVERY)

    async def _run(self, environment: Environment) -> bool:
        async with try_lease(self._database, ranges.lease_name(environment)) as lease:
            if lease is None:
                return False
            try:
                problems = await self._import(environment, lease)
            except LeaseLost:
                raise
            except (BillhookError, asyncpg.PostgresError) as error:
                problems = [reason_of(error)]
            if problems:
                async with self._database.connection() as connection:
                    await ranges.failed(connection, environment, "; ".join(problems))
        return True

    async def _import(self, environment: Environment, lease: Lease) -> list[str]:
        """Read everything that is left.

        Returns:
            Why lists could not be read to the end.
        """
        reader = await fetching.reader_in_background(
            self._database, self._gateway, environment, lease
        )
        if not reader.account:
            raise PaymentConfigInvalid(
                f"No Stripe account is connected in {environment}.",
                next_actions="Run a sync first, which checks the key.",
            )
        now = (await self._gateway.account(environment, key=reader.key)).at
        async with self._database.as_service() as connection:
            await reader.check(connection)
            parts = await ranges.begin(connection, environment, now)
        log.info("import of the history started", environment=environment)
        problems = await read(reader, parts)
        if problems:
            return problems
        async with self._database.as_service() as connection:
            await reader.check(connection)
            await connection.execute(_QUEUE, environment, timeout=LONG_PATIENCE)
            await ranges.finished(connection, environment)
            await gaps.imported(connection, environment)
        log.info("import of the history finished", environment=environment)
        return []
