"""Recording and applying events: one event, one transaction (docs/explanation/ordering.md).

If the app's triggers raise an error, the mirror is still updated; the event is recorded as `failed`
with their message and retried.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import asyncpg
import structlog

from billhook.errors import (
    FAULTS,
    BillhookError,
    DatabaseBusy,
    DatabaseUnavailable,
    fault_of,
)
from billhook.kinds.reading import UnreadableObject
from billhook.ledger.delivery import Delivery
from billhook.ledger.queue import Aside, Queue
from billhook.ledger.transaction import FINISHED, Entry, Work, apply_batch
from billhook.metrics import Metrics
from billhook.postgres import Database, repeat_collisions
from billhook.postgres.leases import Lease
from billhook.postgres.refusals import place_of, reason_of, refusal_in
from billhook.projections import NOTHING, Changes, project
from billhook.settings import ENVIRONMENTS, Environment

log = structlog.get_logger(__name__)

_CUT_OFF = "its transaction was cut off: a trigger took too long, or ended its session"


class EventNotApplied(BillhookError):
    """500: the event is in the ledger as `failed`, with this reason. Stripe sends it again."""


class EventNotRecorded(BillhookError):
    """500: the app's triggers reject every write to the ledger."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an event could not be applied.

    Attributes:
        place: the function and line of the app that raised the error.
        was_cut_off: PostgreSQL looks unavailable, which a trigger may have caused.
    """

    reason: str
    place: str | None = None
    was_cut_off: bool = False


def _bug(error: Exception) -> _Failure:
    log.error("an event cannot be applied: a bug in Billhook", exc_info=error)
    return _Failure(fault_of(error))


class Ledger:
    """Records and applies the events of both environments.

    Args:
        metrics: where they are counted.
    """

    def __init__(self, database: Database, metrics: Metrics | None = None) -> None:
        self.database = database
        self._metrics = metrics or Metrics()
        # A connection for the batch of each environment, and one that remains for everything else.
        aside = Aside(max(1, database.pool_size - len(ENVIRONMENTS) - 1))
        self._queues = {each: Queue(each, self._transact, aside) for each in ENVIRONMENTS}

    async def close(self) -> None:
        """Cancel the running transactions. Nobody waits for their results any more."""
        for queue in self._queues.values():
            await queue.close()

    async def record(
        self, environment: Environment, delivery: Delivery, lease: Lease | None = None
    ) -> Entry:
        """Record, apply and mark one event.

        Args:
            lease: record nothing once it is lost.

        Raises:
            EventNotApplied: it was recorded as `failed`.
            EventNotRecorded: the app's triggers rejected every write.
            OtherAccount: it belongs to an account that is not connected; nothing was changed.
            LeaseLost: `lease` was lost; nothing was recorded.
            DatabaseUnavailable: PostgreSQL is unavailable; nothing was recorded.
            DatabaseBusy, ObjectLocked: a lock was held for too long; nothing was recorded.
        """
        try:
            changes = project(delivery.event)
        except UnreadableObject as error:
            changes, failure = NOTHING, _Failure(str(error))
        else:
            outcome = await self._try(environment, Work(delivery, changes), lease)
            if isinstance(outcome, Entry):
                return outcome
            failure = outcome
        entry = await self._record_failure(environment, delivery, changes, failure, lease)
        if entry.processing_status in FINISHED:
            return entry  # another delivery has succeeded in the meantime
        raise EventNotApplied(
            f"Event {delivery.event.id} was recorded, but could not be applied: {failure.reason}",
            next_actions="Fix the cause; Stripe sends the event again.",
        )

    async def _try(
        self, environment: Environment, work: Work, lease: Lease | None
    ) -> Entry | _Failure:
        """Apply an event. A lost connection may be an outage or caused by a trigger: a second
        attempt shows which."""
        for _ in range(2):
            try:
                if lease is not None:
                    return (await self._transact(environment, [work], lease))[0]
                with self._metrics.queued_events.labels(environment).track_inprogress():
                    return await self._queues[environment].submit(work)
            except FAULTS as error:
                return _bug(error)
            except DatabaseBusy:
                raise  # no trigger of the app has run
            except (asyncpg.PostgresError, DatabaseUnavailable) as error:
                try:
                    refusal = refusal_in(error)
                except DatabaseUnavailable:
                    if await self._is_away():
                        raise
                    if isinstance(error.__cause__, TimeoutError):
                        break  # it would take as long again
                else:
                    return _Failure(reason_of(refusal), place_of(refusal))
        return _Failure(_CUT_OFF, was_cut_off=True)

    async def _is_away(self) -> bool:
        """Whether PostgreSQL currently accepts no writes, so that no trigger is the cause."""
        try:
            async with self.database.connection() as connection:
                return bool(await connection.fetchval("SELECT pg_catalog.pg_is_in_recovery()"))
        except (asyncpg.PostgresError, DatabaseUnavailable):
            return True

    async def _transact(
        self,
        environment: Environment,
        batch: Sequence[Work],
        lease: Lease | None = None,
        *,
        silently: bool = False,
    ) -> list[Entry]:
        async def transaction() -> list[Entry]:
            async with self.database.as_service(resets_itself=not silently) as connection:
                if lease is not None:
                    await lease.check(connection)
                return await apply_batch(connection, environment, batch, silently=silently)

        entries = await repeat_collisions(transaction)
        self._metrics.batch_events.labels(environment).observe(len(batch))
        for work, entry in zip(batch, entries, strict=True):
            created = work.delivery.event.created if entry.handled else None
            self._metrics.committed(environment, entry.processing_status, created)
        return entries

    async def _record_failure(
        self,
        environment: Environment,
        delivery: Delivery,
        changes: Changes,
        failure: _Failure,
        lease: Lease | None,
    ) -> Entry:
        """Mark the event `failed`. The mirror is updated, unless its own rows were rejected. As a
        last resort, the app's triggers on the ledger are disabled for that one transaction
        (docs/decisions/0008-silenced-triggers.md)."""
        log.warning(
            "event failed",
            environment=environment,
            event_id=delivery.event.id,
            event_type=delivery.event.type,
            error=failure.reason,
            raised_in=failure.place,
        )
        outage: DatabaseUnavailable | None = None
        full = Work(delivery, changes, failure.reason)
        bare = replace(full, changes=NOTHING)
        for work, silently in ((full, False), (bare, False), (full, True), (bare, True)):
            try:
                entries = await self._transact(environment, [work], lease, silently=silently)
            except (asyncpg.PostgresError, DatabaseUnavailable) as error:
                if not failure.was_cut_off:
                    refusal_in(error)
                outage = error if isinstance(error, DatabaseUnavailable) else None
            except FAULTS as error:
                _bug(error)
            else:
                return entries[0]
        if outage is not None:
            raise outage
        raise EventNotRecorded(
            f"Event {delivery.event.id} could not be recorded: {failure.reason}",
            next_actions="Fix the trigger on payments.webhook_events that rejects every write; "
            "Stripe sends the event again.",
        )
