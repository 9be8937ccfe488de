"""Sends usage to Stripe: takes a batch, sends its events, stores the results.

One process sends for an environment at a time, so that its rate is the account's, and two never
report the same customer's usage at once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import structlog

from billhook.errors import BillhookError, PaymentConfigInvalid
from billhook.metrics import Metrics
from billhook.postgres import Database
from billhook.postgres.leases import Lease, LeaseLost, try_lease
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, never_sent, refusal_of
from billhook.task_groups import all_or_first_error, for_each
from billhook.usage import batches
from billhook.usage.batches import Batch
from billhook.usage.events import MeterEvent, Result, lanes

log = structlog.get_logger(__name__)

_BATCHES_AT_ONCE = 3
_LANES_AT_ONCE = 64  # of a batch; Stripe's answer takes about 0.2 s, and 1,000 a second are allowed
_ATTEMPTS = 4  # in a row, of what Stripe certainly did not take
_PAUSE = 0.25  # seconds; doubled each time

_KNOWN = "An event already exists with identifier"
_KNOWN_CODE = "duplicate_meter_event"
# Too many requests, or another one for the same customer and meter: it was not executed.
_CONFLICTS = (409, 429)
_EXPIRED = (
    "Stripe may have counted it: the last request got no answer, and it is too long ago for Stripe "
    "to recognize a repetition."
)
_CHANGED_ITS_MIND = "Stripe may have counted it before it refused: "


@dataclass(slots=True)
class _Lane:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0


@dataclass(slots=True)
class _Run:
    """What the senders of one process have in common while they hold the lease."""

    lease: Lease
    environment: Environment
    key: str
    lanes: dict[tuple[str, str], _Lane] = field(default_factory=dict)
    reachable: bool = True
    """The last batch had a result other than to try again."""
    error: BillhookError | None = None
    """Why nothing more is sent. Batches that are under way are finished: their results count."""

    @asynccontextmanager
    async def alone(self, lane: tuple[str, str]) -> AsyncIterator[None]:
        """Only one of the batches reports a customer's usage of a meter."""
        found = self.lanes.setdefault(lane, _Lane())
        found.users += 1
        try:
            async with found.lock:
                yield
        finally:
            found.users -= 1
            if not found.users:
                del self.lanes[lane]


class UsageSender:
    """Sends what is due."""

    def __init__(self, database: Database, gateway: Gateway, metrics: Metrics) -> None:
        self._database = database
        self._gateway = gateway
        self._metrics = metrics

    async def send_due(self, environment: Environment) -> None:
        """Send until nothing is due, unless another process does.

        Raises:
            PaymentConfigInvalid: Stripe rejects the key. Nothing is lost.
            LeaseLost: the account was changed.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        async with try_lease(self._database, f"usage:{environment}") as lease:
            if lease is None:
                return
            # After the lease, which a change of the account revokes.
            run = _Run(lease, environment, await self._gateway.key(environment))
            async with all_or_first_error() as group:
                for _ in range(_BATCHES_AT_ONCE):
                    group.create_task(self._work(run))
            if run.error is not None:
                raise run.error

    async def _work(self, run: _Run) -> None:
        try:
            while run.reachable and run.error is None:
                batch = await batches.take_again(
                    self._database, run.lease, run.environment
                ) or await batches.take(self._database, run.lease, run.environment)
                if batch is None:
                    return
                await self._send(run, batch)
        except LeaseLost:
            raise  # the other batches can't be settled either
        except BillhookError as error:
            run.error = run.error or error

    async def _send(self, run: _Run, batch: Batch) -> None:
        results: list[Result] = []
        # What PostgreSQL's clock says, as in the stored events.
        ahead = time.time() - batch.taken_at

        async def send_lane(lane: list[MeterEvent]) -> None:
            async with run.alone((lane[0].customer, lane[0].meter)):
                for event in lane:
                    if run.error is not None:
                        results.append(Result(event, "again"))
                        continue
                    try:
                        results.append(await self._send_one(run, event, ahead))
                    except PaymentConfigInvalid as error:
                        run.error = run.error or error
                        results.append(Result(event, "again"))

        await for_each(lanes(batch.events), send_lane, _LANES_AT_ONCE)
        counts = await batches.settle(self._database, run.lease, run.environment, batch, results)
        run.reachable = set(counts) != {"again"}
        for outcome, rows in counts.items():
            self._metrics.usage_rows.labels(run.environment, outcome).inc(rows)
        if counts["failed"] or counts["uncertain"]:
            reasons = {each.reason for each in results if each.outcome in ("failed", "uncertain")}
            log.warning(
                "usage was not billed",
                environment=run.environment,
                rows=counts["failed"] + counts["uncertain"],
                reasons=sorted(filter(None, reasons))[:3],
            )

    async def _send_one(self, run: _Run, event: MeterEvent, ahead: float) -> Result:
        """Send one event; of those that Stripe certainly did not take, a few times.

        Raises:
            PaymentConfigInvalid: Stripe rejects the key.
        """
        if not event.safe(time.time() - ahead):
            return Result(event, "uncertain", _EXPIRED)
        reason = None
        for attempt in range(_ATTEMPTS):
            began = time.time() - ahead
            try:
                await self._gateway.meter_event(run.environment, event.params, key=run.key)
            except PaymentConfigInvalid:
                raise
            except BillhookError as error:
                if error.status not in _CONFLICTS:
                    return _failure(event, error, began)
                reason = error.message
                await asyncio.sleep(_PAUSE * 2**attempt)
            else:
                return Result(event, "sent")
        return Result(event, "again", reason)


def _failure(event: MeterEvent, error: BillhookError, began: float) -> Result:
    """What follows from Stripe's error, or from none.

    Args:
        began: when the request began, in epoch seconds.
    """
    refusal = refusal_of(error)
    if refusal is not None and refusal.type == "invalid_request_error":
        if error.message.startswith(_KNOWN) or refusal.code == _KNOWN_CODE:
            return Result(event, "sent")
        if event.unsure_since is not None:
            return Result(event, "uncertain", _CHANGED_ITS_MIND + error.message)
        return Result(event, "failed", error.message)
    if not never_sent(error) and event.unsure_since is None:
        event = replace(event, unsure_since=began)
    return Result(event, "again", error.message)
