"""Sync: read Stripe's lists page by page into the mirror (contract section 5).

The lists of mirrored objects are read concurrently, and each list in several concurrent ranges of
`created`: a range is split whenever other readers are idle. Pages are written as they arrive, with
set-based statements and the same version checks as events; unchanged objects are not written. The
state of every range is stored with its pages, so that an interrupted sync continues where it
stopped. Objects that are missing in a list are fetched individually before they are removed.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import structlog

from billhook.account.connections import Connections, not_configured
from billhook.errors import BillhookError, PaymentConfigInvalid
from billhook.kinds import SUBSCRIPTION
from billhook.mirror import entitled, fetching, refreshes
from billhook.mirror.sync.ranges import LISTINGS, begin
from billhook.mirror.sync.reading import (
    Reading,
    read,
    remove_absent,
)
from billhook.models import SubscriptionsSummary, SyncProgress, SyncResult
from billhook.postgres import Database
from billhook.postgres.leases import Lease, LeaseLost, try_lease
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway
from billhook.task_groups import all_or_first_error

log = structlog.get_logger(__name__)

_WRITERS = 3
_SUBSCRIPTIONS = SUBSCRIPTION.plural  # the contract requires more than a count of these
_LOOK_EVERY = 0.25  # seconds, while another process syncs

_FINISH = """
UPDATE billhook.syncs SET finished_at = now(), result = $2 WHERE environment = $1
"""
_LAST = "SELECT started_at, finished_at, result FROM billhook.syncs WHERE environment = $1"
_COUNTS = """
SELECT list, pg_catalog.sum(objects)::bigint AS objects FROM billhook.sync_ranges
WHERE environment = $1 GROUP BY list
"""
_LEASED = "SELECT EXISTS (SELECT FROM billhook.leases WHERE name = $1 AND until > now())"
_UNMAPPED = """
SELECT count(*) FROM payments.stripe_subscriptions WHERE environment = $1 AND subject_id IS NULL
"""


class _NoKey(BillhookError):
    """The environment is not configured: a result, not an error."""


class Sync:
    """Syncs the mirror with Stripe. One sync runs per environment, across all processes; concurrent
    requests get its result."""

    def __init__(self, database: Database, gateway: Gateway, connections: Connections) -> None:
        self._database = database
        self._gateway = gateway
        self._connections = connections
        self._tasks: dict[Environment, asyncio.Task[SyncResult]] = {}

    async def run(self, environment: Environment) -> SyncResult:
        """Sync an environment and wait for the result; the sync continues if the caller leaves.

        A missing key, or one that Stripe rejects, is also a result: its connection contains the
        reason.

        Raises:
            DatabaseUnavailable: PostgreSQL is unavailable. The next sync continues from there.
            asyncpg.PostgresError: a trigger of the app rejects the result in the connection.
        """
        return await asyncio.shield(self.start(environment))

    def start(self, environment: Environment) -> asyncio.Task[SyncResult]:
        """Start a sync in the background, unless this process is already running one."""
        task = self._tasks.get(environment)
        if task is None or task.done():
            task = asyncio.create_task(self._run(environment))
            # There may be no caller waiting, so errors are handled here.
            task.add_done_callback(_report)
            self._tasks[environment] = task
        return task

    async def close(self) -> None:
        """Stop the running syncs. The next ones continue from there."""
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())  # `_report` has logged their errors

    async def progress(self, environment: Environment) -> SyncProgress:
        """The progress of the running sync, or of the last one."""
        async with self._database.connection() as connection:
            last = await connection.fetchrow(_LAST, environment)
            counts = await connection.fetch(_COUNTS, environment)
            running = await connection.fetchval(_LEASED, _lease_name(environment))
        return SyncProgress(
            environment=environment,
            running=running,
            started_at=last["started_at"] if last else None,
            counts={row["list"]: row["objects"] for row in counts},
        )

    async def _run(self, environment: Environment) -> SyncResult:
        """Run a sync, or wait for the one that another process runs; take over if it is stopped."""
        async with self._database.connection() as connection:
            asked_at = await connection.fetchval("SELECT clock_timestamp()")
        while True:
            async with self._database.connection() as connection:
                last = await connection.fetchrow(_LAST, environment)
            if last and last["finished_at"] and last["finished_at"] > asked_at:
                return SyncResult.model_validate(last["result"])
            # The key was changed, so everything read so far is discarded: start over.
            with suppress(LeaseLost):
                async with try_lease(self._database, _lease_name(environment)) as lease:
                    if lease is not None:
                        return await self._sync(environment, lease)
            await asyncio.sleep(_LOOK_EVERY)

    async def _sync(self, environment: Environment, lease: Lease) -> SyncResult:
        ranges, complete = await begin(self._database, environment, lease)
        try:
            reader, at = await self._account(environment, lease)
        except LeaseLost:
            raise
        except BillhookError as error:
            unset = isinstance(error, _NoKey)
            await self._connections.failed(
                environment, "unconfigured" if unset else "error", error.message, lease
            )
            return await self._finish(environment, None, lease)
        log.info("sync started", environment=environment, resumed=not complete)
        writers = asyncio.Semaphore(_WRITERS)
        readings = [Reading(name, kind, complete, writers) for name, kind in LISTINGS.items()]
        async with all_or_first_error() as group:
            for each in readings:
                group.create_task(read(reader, each, ranges[each.name]))
        removed = {each.name: await remove_absent(reader, each, at) for each in readings}
        await entitled.queue_unknown(reader)
        await refreshes.settle_all(reader)
        summary = await self._record(environment, readings, lease, deleted=removed[_SUBSCRIPTIONS])
        counts = {each.name: each.objects for each in readings}
        log.info("sync finished", environment=environment, **counts)
        return await self._finish(environment, summary, lease)

    async def _account(
        self, environment: Environment, lease: Lease
    ) -> tuple[fetching.StripeReader, int]:
        """Make sure that the key belongs to the mirrored account. Returns the reader to use from
        now on, always with this key, and Stripe's time."""
        try:
            key = await self._gateway.key(environment)
        except PaymentConfigInvalid:
            raise _NoKey(not_configured(environment)) from None
        account = await self._gateway.account(environment, key=key)
        await self._connections.connected(environment, account, lease=lease)
        return fetching.StripeReader(
            self._database, self._gateway, environment, key, lease
        ), account.at

    async def _record(
        self,
        environment: Environment,
        readings: list[Reading],
        lease: Lease,
        *,
        deleted: int,
    ) -> SubscriptionsSummary | None:
        """Store the result in the connection; return the summary of the subscriptions, if read."""
        async with self._database.connection() as connection:
            counts = {
                row["list"]: row["objects"] for row in await connection.fetch(_COUNTS, environment)
            }
            unmapped = await connection.fetchval(_UNMAPPED, environment)
        reasons = [
            f"{each.name}: {reason}"
            for each in readings
            if (reason := each.error.message if each.error else each.refused)
        ]
        if reasons:
            await self._connections.failed(environment, "error", "; ".join(reasons), lease)
        else:
            await self._connections.synced(environment, counts, lease)
        if any(each.error for each in readings if each.name == _SUBSCRIPTIONS):
            return None
        return SubscriptionsSummary(
            environment=environment,
            synced=counts.get(_SUBSCRIPTIONS, 0),
            unmapped=unmapped,
            deleted=deleted,
        )

    async def _finish(
        self, environment: Environment, summary: SubscriptionsSummary | None, lease: Lease
    ) -> SyncResult:
        result = SyncResult(
            environment=environment,
            connection=await self._connections.get(environment),
            subscriptions=summary,
        )
        async with self._database.as_service() as connection:
            await lease.check(connection)
            await connection.execute(_FINISH, environment, result.model_dump(mode="json"))
        return result


def _lease_name(environment: Environment) -> str:
    return f"sync:{environment}"


def _report(task: asyncio.Task[SyncResult]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("sync stopped", reason=str(error))
