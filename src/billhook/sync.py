"""Sync: read Stripe's lists page by page into the mirror (contract section 5, design section 6).

Products, prices, customers and subscriptions are read at once, and each list in several ranges of
`created` at once: a range is split whenever others have nothing to do. Pages are written as they
come, in one set-based statement each, under the version guard that events are under, and what did
not change is not written. The state of every range is kept with its pages, so that a sync that was
stopped goes on where it was. What a list no longer has is asked of Stripe one by one before it is
removed.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import structlog

from billhook import mirror
from billhook.connections import Connections, not_configured
from billhook.db import Database, repeat_collisions
from billhook.db.leases import Lease, LeaseLost, try_lease
from billhook.errors import BillhookError, PaymentConfigInvalid
from billhook.models import SubscriptionsSummary, SyncProgress, SyncResult
from billhook.projections.fetched import Kind
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject

log = structlog.get_logger(__name__)

_PAGE = 100
_AT_ONCE = 4
"""Ranges of one list that are read at the same time."""
_WRITERS = 3
"""Pages that are written at the same time: the pool serves others, too."""
_CONFIRM_AT_ONCE = 4
_CONFIRM_MOST = 2_000
"""Absent objects asked about in one sync; the next one asks about the rest."""
_LOOK_EVERY = 0.25
_OLDEST = 1_293_840_000
"""2011: Stripe has nothing older, so ranges are split above it."""


@dataclass(frozen=True, slots=True)
class _Listing:
    name: str
    kind: Kind
    table: str
    id_column: str
    variants: tuple[dict[str, Any], ...] = ({},)
    """The requests that give the whole list together."""


# Without `active`, Stripe lists the active ones only (stripe-facts 24).
_ACTIVE_OR_NOT: tuple[dict[str, Any], ...] = ({"active": True}, {"active": False})
_LISTINGS = (
    _Listing("products", "product", "payments.stripe_products", "product_id", _ACTIVE_OR_NOT),
    _Listing("prices", "price", "payments.stripe_prices", "price_id", _ACTIVE_OR_NOT),
    _Listing(
        "customers",
        "customer",
        "payments.customers",
        "provider_customer_id",
        ({"expand": [f"data.{each}" for each in mirror.EXPAND["customer"]]},),
    ),
    _Listing(
        "subscriptions",
        "subscription",
        "payments.stripe_subscriptions",
        "subscription_id",
        ({"status": "all"},),
    ),
)

_BEGIN = """
INSERT INTO billhook.syncs AS s (environment) VALUES ($1)
ON CONFLICT (environment) DO UPDATE SET started_at = now(), finished_at = NULL, result = NULL
"""
_FORGET_RANGES = "DELETE FROM billhook.sync_ranges WHERE environment = $1"
# A sync that was stopped an hour ago or earlier would resume into a list that has moved on.
_STOPPED = """
SELECT EXISTS (
    SELECT FROM billhook.syncs
    WHERE environment = $1 AND finished_at IS NULL AND started_at > now() - interval '1 hour')
"""
_RANGES = """
SELECT id, list, variant, since, upto, after, objects, done FROM billhook.sync_ranges
WHERE environment = $1 ORDER BY id
"""
_ADD_RANGE = """
INSERT INTO billhook.sync_ranges (environment, list, variant, since, upto)
VALUES ($1, $2, $3, $4, $5)
RETURNING id
"""
_MOVE_RANGE = """
UPDATE billhook.sync_ranges SET since = $2, after = $3, objects = $4, done = $5 WHERE id = $1
"""
_FINISH = """
UPDATE billhook.syncs SET finished_at = now(), result = $2 WHERE environment = $1
"""
_LAST = "SELECT started_at, finished_at, result FROM billhook.syncs WHERE environment = $1"
_COUNTS = """
SELECT list, sum(objects)::bigint AS objects FROM billhook.sync_ranges
WHERE environment = $1 GROUP BY list
"""
_LEASED = "SELECT EXISTS (SELECT FROM billhook.leases WHERE name = $1 AND until > now())"
_UNMAPPED = """
SELECT count(*) FROM payments.stripe_subscriptions WHERE environment = $1 AND subject_id IS NULL
"""
_IN_DOUBT = """
SELECT object_type, object_id, marked_at FROM billhook.refreshes
WHERE environment = $1 AND object_type IN ('product', 'price', 'customer', 'subscription')
ORDER BY marked_at LIMIT $2
"""
# A doubt that arose in the second of the answer, or later, stays: the next sync asks again.
_CLEARED = """
DELETE FROM billhook.refreshes
WHERE environment = $1 AND object_type = $2 AND object_id = $3 AND marked_at < to_timestamp($4)
"""


@dataclass(slots=True)
class _Range:
    """Objects of one list created in [since, upto), of which those up to `after` are read."""

    id: int
    variant: int
    since: int
    upto: int | None
    after: str | None = None
    objects: int = 0


@dataclass(slots=True)
class _Reading:
    """One list while it is read."""

    listing: _Listing
    complete: bool
    """Whether all of it is read here: what a resumed one saw before the stop is not known."""
    active: int = 0
    objects: int = 0
    seen: set[str] = field(default_factory=set)
    error: BillhookError | None = None


class _NoKey(BillhookError):
    """The environment is not configured: a result, not an error."""


class Sync:
    """Brings the mirror in line with Stripe. One runs per environment, in whatever process; who
    asks for another meanwhile gets the result of that one."""

    def __init__(self, database: Database, gateway: Gateway, connections: Connections) -> None:
        self._database = database
        self._gateway = gateway
        self._connections = connections
        self._writers = asyncio.Semaphore(_WRITERS)
        self._tasks: dict[Environment, asyncio.Task[SyncResult]] = {}

    async def run(self, environment: Environment) -> SyncResult:
        """Sync an environment and wait for the result; the sync goes on when the caller leaves.

        An environment without a key, or one that Stripe refuses, is a result as well: its
        connection says why.

        Raises:
            DatabaseUnavailable: PostgreSQL is away. The next sync goes on from there.
        """
        return await asyncio.shield(self.start(environment))

    def start(self, environment: Environment) -> asyncio.Task[SyncResult]:
        """Start a sync in the background, unless this process has one already."""
        task = self._tasks.get(environment)
        if task is None or task.done():
            task = asyncio.create_task(self._run(environment))
            # Nobody may be waiting: the error, if any, is looked at here.
            task.add_done_callback(_report)
            self._tasks[environment] = task
        return task

    async def close(self) -> None:
        """Stop what runs. The next sync goes on from there."""
        for task in self._tasks.values():
            task.cancel()
            with suppress(asyncio.CancelledError, BillhookError):
                await task

    async def progress(self, environment: Environment) -> SyncProgress:
        """How far the sync is that runs, or the last one was."""
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
            # Overtaken by a change of the key: what it read is of no use, so begin again.
            with suppress(LeaseLost):
                async with try_lease(self._database, _lease_name(environment)) as lease:
                    if lease is not None:
                        return await self._sync(environment, lease)
            await asyncio.sleep(_LOOK_EVERY)

    async def _sync(self, environment: Environment, lease: Lease) -> SyncResult:
        ranges, complete = await self._begin(environment, lease)
        try:
            asking, at = await self._account(environment, lease)
        except LeaseLost:
            raise
        except BillhookError as error:
            unset = isinstance(error, _NoKey)
            await self._connections.failed(
                environment, "unconfigured" if unset else "error", error.message, lease
            )
            return await self._finish(environment, None, lease)
        log.info("sync started", environment=environment, resumed=not complete)
        readings = [_Reading(each, complete) for each in _LISTINGS]
        async with _all_or_first_error() as group:
            for each in readings:
                group.create_task(self._read(asking, each, ranges[each.listing.name]))
        removed = [await self._remove(asking, each, at) for each in readings]
        await self._settle_doubts(asking)
        summary = await self._record(environment, readings, lease, deleted=removed[-1])
        counts = {each.listing.name: each.objects for each in readings}
        log.info("sync finished", environment=environment, **counts)
        return await self._finish(environment, summary, lease)

    async def _account(self, environment: Environment, lease: Lease) -> tuple[mirror.Asking, int]:
        """Make sure that the key opens the account whose rows we have. Returns who asks from now
        on, always with this key, and Stripe's time."""
        try:
            key = await self._gateway.key(environment)
        except PaymentConfigInvalid:
            raise _NoKey(not_configured(environment)) from None
        account = await self._gateway.get(environment, "/v1/account", key=key)
        await self._connections.connected(environment, account.data)
        return mirror.Asking(self._database, self._gateway, environment, key, lease), account.at

    async def _begin(
        self, environment: Environment, lease: Lease
    ) -> tuple[dict[str, list[_Range]], bool]:
        """The ranges to read, and whether they are whole lists (not those of a stopped sync)."""
        ranges: dict[str, list[_Range]] = {each.name: [] for each in _LISTINGS}
        async with self._database.as_service() as connection:
            await lease.check(connection)
            stopped = await connection.fetchval(_STOPPED, environment)
            left = await connection.fetch(_RANGES, environment) if stopped else []
            if left:
                for row in left:
                    if not row["done"]:
                        ranges[row["list"]].append(_range(row))
                return ranges, False
            await connection.execute(_FORGET_RANGES, environment)
            await connection.execute(_BEGIN, environment)
            for each in _LISTINGS:
                for variant in range(len(each.variants)):
                    row_id = await connection.fetchval(
                        _ADD_RANGE, environment, each.name, variant, _OLDEST, None
                    )
                    ranges[each.name].append(_Range(row_id, variant, _OLDEST, None))
        return ranges, True

    async def _read(
        self, asking: mirror.Asking, reading: _Reading, ranges: Iterable[_Range]
    ) -> None:
        """Read one list. What goes wrong ends this list only."""
        try:
            async with _all_or_first_error() as group:
                for each in ranges:
                    reading.active += 1
                    group.create_task(self._walk(asking, reading, each, group))
        except LeaseLost:
            raise
        except (BillhookError, asyncpg.PostgresError) as error:
            reason = error if isinstance(error, BillhookError) else BillhookError(str(error))
            reading.error = reason
            log.warning(
                "a list could not be synced",
                environment=asking.environment,
                list=reading.listing.name,
                reason=reason.message,
            )

    async def _walk(
        self, asking: mirror.Asking, reading: _Reading, part: _Range, group: asyncio.TaskGroup
    ) -> None:
        more = True
        while more:
            listing = reading.listing
            page = await asking.get(
                listing.name, mirror.PATHS[listing.kind], _params(listing, part)
            )
            objects: list[StripeObject] = page.data.get("data") or []
            more = page.data.get("has_more") is True and bool(objects)
            if listing.kind == "subscription":
                for each in objects:
                    await mirror.complete_items(asking, each)
            older = _split(part, objects) if more and reading.active < _AT_ONCE else None
            reading.active += 1 if older else 0
            await self._write(asking, reading, part, objects, page.at, older, done=not more)
            if older is not None:
                group.create_task(self._walk(asking, reading, older, group))
        reading.active -= 1

    async def _write(
        self,
        asking: mirror.Asking,
        reading: _Reading,
        part: _Range,
        objects: list[StripeObject],
        at: int,
        older: _Range | None,
        *,
        done: bool,
    ) -> None:
        """Write a page and what is left of its range, in one transaction."""
        environment, listing = asking.environment, reading.listing
        part.objects += len(objects)
        part.after = objects[-1]["id"] if objects else part.after
        if older is not None and older.upto is not None:
            part.since = older.upto

        async def work() -> None:
            async with self._database.as_service() as connection:
                await asking.check(connection)
                await mirror.write(connection, environment, listing.kind, objects, at)
                await connection.execute(
                    _MOVE_RANGE, part.id, part.since, part.after, part.objects, done
                )
                if older is not None:
                    older.id = await connection.fetchval(
                        _ADD_RANGE,
                        environment,
                        listing.name,
                        older.variant,
                        older.since,
                        older.upto,
                    )

        async with self._writers:
            await repeat_collisions(work)
        reading.objects += len(objects)
        reading.seen.update(each["id"] for each in objects)

    async def _remove(self, asking: mirror.Asking, reading: _Reading, at: int) -> int:
        """Ask Stripe about each object that its list did not show, and remove what is gone."""
        if not reading.complete or reading.error is not None:
            return 0
        listing = reading.listing
        alive = "AND NOT t.deleted" if listing.kind == "customer" else ""
        query = f"""
            SELECT {listing.id_column} AS id FROM {listing.table} AS t
            WHERE environment = $1 AND coalesce(provider_event_at, '-infinity') < to_timestamp($3)
              {alive}
              AND NOT EXISTS (
                  SELECT FROM unnest($2::text[]) AS seen WHERE seen = t.{listing.id_column})
            ORDER BY provider_event_at NULLS FIRST LIMIT $4
        """  # noqa: S608 — names from _LISTINGS, nothing of the caller's
        async with self._database.connection() as connection:
            rows = await connection.fetch(
                query, asking.environment, list(reading.seen), at, _CONFIRM_MOST
            )
        slots = asyncio.Semaphore(_CONFIRM_AT_ONCE)
        gone = 0

        async def confirm(object_id: str) -> None:
            nonlocal gone
            async with slots:
                gone += not (await mirror.refresh(asking, listing.kind, object_id)).exists

        try:
            async with _all_or_first_error() as group:
                for row in rows:
                    group.create_task(confirm(row["id"]))
        except LeaseLost:
            raise
        except BillhookError as error:
            reading.error = error
        return gone

    async def _settle_doubts(self, asking: mirror.Asking) -> None:
        """Ask Stripe about what two changes within one second left open."""
        async with self._database.connection() as connection:
            marks = await connection.fetch(_IN_DOUBT, asking.environment, _CONFIRM_MOST)
        for mark in marks:
            try:
                found = await mirror.refresh(asking, mark["object_type"], mark["object_id"])
            except LeaseLost:
                raise
            except BillhookError as error:
                log.warning("an object could not be asked for again", reason=error.message)
                return
            async with self._database.connection() as connection:
                await connection.execute(
                    _CLEARED, asking.environment, mark["object_type"], mark["object_id"], found.at
                )

    async def _record(
        self,
        environment: Environment,
        readings: list[_Reading],
        lease: Lease,
        *,
        deleted: int,
    ) -> SubscriptionsSummary | None:
        """How it went, into the connection; the summary of the subscriptions, if they were read."""
        async with self._database.connection() as connection:
            counts = {
                row["list"]: row["objects"] for row in await connection.fetch(_COUNTS, environment)
            }
            unmapped = await connection.fetchval(_UNMAPPED, environment)
        reasons = [
            f"{each.listing.name}: {each.error.message}"
            for each in readings
            if each.error is not None
        ]
        if reasons:
            await self._connections.failed(environment, "error", "; ".join(reasons), lease)
        else:
            await self._connections.synced(environment, counts, lease)
        if readings[-1].error is not None:
            return None
        return SubscriptionsSummary(
            environment=environment,
            synced=counts.get("subscriptions", 0),
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


@asynccontextmanager
async def _all_or_first_error() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first error itself, when all its tasks have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


def _range(row: asyncpg.Record) -> _Range:
    return _Range(
        row["id"], row["variant"], row["since"], row["upto"], row["after"], row["objects"]
    )


def _lease_name(environment: Environment) -> str:
    return f"sync:{environment}"


def _params(listing: _Listing, part: _Range) -> dict[str, Any]:
    created = {"gte": part.since} if part.since > _OLDEST else {}
    if part.upto is not None:
        created["lt"] = part.upto
    params: dict[str, Any] = {"limit": _PAGE, **listing.variants[part.variant]}
    if created:
        params["created"] = created
    if part.after is not None:
        params["starting_after"] = part.after
    return params


def _split(part: _Range, objects: list[StripeObject]) -> _Range | None:
    """The older half of what is left of a range, or None where there is nothing to halve."""
    oldest = objects[-1].get("created")
    if not isinstance(oldest, int) or oldest - part.since < 2:
        return None
    middle = (part.since + oldest) // 2
    return _Range(0, part.variant, part.since, middle)


def _report(task: asyncio.Task[SyncResult]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("sync stopped", reason=str(error))
