"""Events that arrive while a transaction runs are applied together by the next one.

One batch runs at a time; a single event is applied immediately. An event is answered when its
transaction has committed. If a batch fails or takes too long, it is rolled back, and each of its
events is applied alone: a trigger that raises an error, sleeps, waits for a lock or ends its
session affects only its own event.

Events that are applied alone, and batches that wait, run beside the current batch: they hold up
only each other, and events that share an object with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from billhook.errors import DatabaseBusy
from billhook.ledger.transaction import Entry, Work, locks_of
from billhook.settings import Environment

Apply = Callable[[Environment, Sequence[Work]], Awaitable[list[Entry]]]
"""Applies events in one transaction of its own."""

MOST_EVENTS = 32
MOST_BYTES = 1_000_000
_STUCK_AFTER = 0.05
"""Seconds after which a batch is set aside and the next one starts: it waits for a lock or a
trigger."""
_BATCH_TIMEOUT = 1.0
"""Seconds after which a batch is canceled and its events are applied alone."""
_SLOW = 0.005
"""If the app's triggers take longer than this (seconds), events of a type are applied alone, next
to the batches, so that others don't wait for them."""
_MEMORY = 0.8
"""The weight of the previous average when a type's average time is updated."""


@dataclass(eq=False, slots=True)
class _Waiting:
    """
    Attributes:
        alone: the batch that it was in has failed.
    """

    work: Work
    answer: asyncio.Future[Entry]
    locks: frozenset[str]
    alone: bool = False

    @property
    def type(self) -> str:
        return self.work.delivery.event.type


class Aside:
    """The transactions that run beside the batches, of all queues together.

    Args:
        most: how many may run at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._queues: list[Queue] = []
        self.running: set[asyncio.Task[None]] = set()

    @property
    def has_room(self) -> bool:
        return len(self.running) < self._most

    def share(self, queue: Queue) -> None:
        """Let a queue use it."""
        self._queues.append(queue)

    def start_waiting(self) -> None:
        """A transaction has ended: start those that have room now."""
        for queue in self._queues:
            queue.start()


class Queue:
    """The events of one environment that are waiting for a transaction, in this process.

    Args:
        aside: shared with the other environment's queue.
    """

    def __init__(self, environment: Environment, apply: Apply, aside: Aside) -> None:
        self._environment = environment
        self._apply = apply
        self._waiting: list[_Waiting] = []
        self._busy: set[str] = set()
        self._batch: asyncio.Task[None] | None = None
        self._aside = aside
        aside.share(self)
        self._seconds: dict[str, float] = {}  # in triggers, on average, by event type

    async def submit(self, work: Work) -> Entry:
        """Apply an event, together with others that are waiting.

        Raises:
            Exception: it was not applied.
        """
        answer: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, answer, locks_of(self._environment, work)))
        self.start()
        return await answer

    async def close(self) -> None:
        """Cancel the running transactions."""
        self._waiting.clear()
        running = self._aside.running | ({self._batch} if self._batch else set())
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    def start(self) -> None:
        """Start the transactions that may run now."""
        while self._aside.has_room and (events := self._take(1, alone=True)):
            self._aside.running.add(asyncio.create_task(self._run(events, None)))
        if self._batch is None and (events := self._take(MOST_EVENTS, alone=False)):
            self._batch = asyncio.create_task(self._run(events, _BATCH_TIMEOUT))

    def _take(self, most: int, *, alone: bool) -> list[_Waiting]:
        """Take the next events. Those that share an object, customer or subject keep their order,
        and never run in two transactions at once."""
        taken: list[_Waiting] = []
        left: list[_Waiting] = []
        barred = set(self._busy)
        size = 0
        for waiting in self._waiting:
            if (
                len(taken) < most
                and size < MOST_BYTES
                and alone == (waiting.alone or self._seconds.get(waiting.type, 0.0) > _SLOW)
                and not waiting.locks & barred
            ):
                taken.append(waiting)
                size += len(waiting.work.delivery.payload)
            else:
                left.append(waiting)
                barred |= waiting.locks
        self._waiting = left
        for waiting in taken:
            self._busy |= waiting.locks
        return taken

    async def _run(self, events: list[_Waiting], seconds: float | None) -> None:
        """Apply events in one transaction.

        Args:
            seconds: how long it may take.
        """
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None
        begun = loop.time()
        limit = asyncio.timeout(seconds)

        def set_aside() -> None:
            if self._batch is task and self._aside.has_room:
                self._batch = None
                self._aside.running.add(task)
                if len(events) == 1:
                    limit.reschedule(None)
                self.start()

        timer = loop.call_later(_STUCK_AFTER, set_aside)
        try:
            async with limit:
                entries = await self._apply(self._environment, [each.work for each in events])
        except Exception as error:
            # A lock on an object, or on the ledger, says nothing about the type's triggers.
            if len(events) == 1 and not isinstance(error, DatabaseBusy):
                self._learn(events[0].type, min(loop.time() - begun, _BATCH_TIMEOUT))
            if len(events) > 1 or limit.expired():
                self._put_back(events)
            else:
                _refuse(events[0], error)
        else:
            for waiting, entry in zip(events, entries, strict=True):
                self._learn(waiting.type, entry.spent)
                _answer(waiting, entry)
        finally:
            timer.cancel()
            self._end(task, events)

    def _put_back(self, events: list[_Waiting]) -> None:
        """Rejected, stuck, or a bug in handling one of them: the others must not be affected."""
        for waiting in events:
            waiting.alone = True
        self._waiting[:0] = events

    def _end(self, task: asyncio.Task[None], events: list[_Waiting]) -> None:
        self._aside.running.discard(task)
        if self._batch is task:
            self._batch = None
        for waiting in events:
            self._busy -= waiting.locks
        self._aside.start_waiting()

    def _learn(self, type: str, seconds: float) -> None:
        before = self._seconds.get(type, seconds)
        self._seconds[type] = _MEMORY * before + (1 - _MEMORY) * seconds


def _answer(waiting: _Waiting, entry: Entry) -> None:
    if not waiting.answer.done():  # the caller may be gone
        waiting.answer.set_result(entry)


def _refuse(waiting: _Waiting, error: Exception) -> None:
    if not waiting.answer.done():
        waiting.answer.set_exception(error)
