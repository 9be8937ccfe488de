"""Events that arrive while a transaction runs are applied together by the next one.

A single event is applied immediately. An event is answered when its transaction has committed. If a
batch fails, it is rolled back, and each of its events is applied alone: a trigger that raises an
error, sleeps or ends its session affects only its own event.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass

from billhook.ledger.transaction import Entry, Work, locks_of
from billhook.settings import Environment

Apply = Callable[[Environment, Sequence[Work]], Awaitable[list[Entry]]]
"""Applies events in one transaction of its own."""

MOST_EVENTS = 32
MOST_BYTES = 1_000_000
_BATCH_TIMEOUT = 1.0
"""Seconds after which a batch is canceled and its events are applied alone."""
_STUCK_AFTER = 0.05
"""Seconds after which another batch starts although one is waiting for a lock or a trigger."""
_MOST_BATCHES = 3
_SLOW = 0.005
"""If the app's triggers take longer than this (seconds), events of a type are applied alone, next
to the batches, so that others don't wait for them."""
_MOST_ALONE = 8
_MEMORY = 0.8
"""The weight of the previous average when a type's average time is updated."""


@dataclass(eq=False, slots=True)
class _Waiting:
    work: Work
    answer: asyncio.Future[Entry]
    locks: frozenset[str]

    @property
    def type(self) -> str:
        return self.work.delivery.event.type


class Queue:
    """The events of one environment that are waiting for a transaction, in this process."""

    def __init__(self, environment: Environment, apply: Apply) -> None:
        self._environment = environment
        self._apply = apply
        self._waiting: list[_Waiting] = []
        self._busy: set[str] = set()
        self._batches = 0
        self._stuck = 0
        self._alone = 0
        self._seconds: dict[str, float] = {}  # in triggers, on average, by event type
        self._tasks: set[asyncio.Task[None]] = set()

    async def apply(self, work: Work) -> Entry:
        """Apply an event, together with others that are waiting.

        Raises:
            Exception: it was not applied.
        """
        answer: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(work, answer, locks_of(self._environment, work)))
        self._start()
        return await answer

    async def close(self) -> None:
        """Cancel the running transactions."""
        self._waiting.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self) -> None:
        """Start the transactions that may run now."""
        while self._alone < _MOST_ALONE and (slow := self._take(1, slow=True)):
            self._alone += 1
            self._run(self._run_slow(slow))
        while self._batches - self._stuck < 1 and self._batches < _MOST_BATCHES:
            batch = self._take(MOST_EVENTS, slow=False)
            if not batch:
                return
            self._batches += 1
            self._run(self._run_batch(batch))

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take(self, most: int, *, slow: bool) -> list[_Waiting]:
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
                and slow == (self._seconds.get(waiting.type, 0.0) > _SLOW)
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

    def _release(self, taken: Sequence[_Waiting]) -> None:
        for waiting in taken:
            self._busy -= waiting.locks

    async def _run_slow(self, taken: list[_Waiting]) -> None:
        try:
            await self._apply_alone(taken[0])
        finally:
            self._alone -= 1
            self._release(taken)
            self._start()

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        stuck = False

        def note_stuck() -> None:
            nonlocal stuck
            stuck = True
            self._stuck += 1
            self._start()

        timer = asyncio.get_running_loop().call_later(_STUCK_AFTER, note_stuck)
        try:
            await self._apply_together(batch)
        finally:
            timer.cancel()
            self._stuck -= stuck
            self._batches -= 1
            self._release(batch)
            self._start()

    async def _apply_together(self, batch: list[_Waiting]) -> None:
        if len(batch) == 1:
            await self._apply_alone(batch[0])
            return
        work = [waiting.work for waiting in batch]
        try:
            async with asyncio.timeout(_BATCH_TIMEOUT):
                entries = await self._apply(self._environment, work)
        except Exception:
            # Rejected, stuck, or a bug in handling one of them: the others must not be affected.
            await self._apply_each(batch)
            return
        for waiting, entry in zip(batch, entries, strict=True):
            self._answer(waiting, entry)

    async def _apply_each(self, batch: list[_Waiting]) -> None:
        slots = asyncio.Semaphore(_MOST_ALONE)

        async def apply(waiting: _Waiting) -> None:
            async with slots:
                await self._apply_alone(waiting)

        await asyncio.gather(*(apply(waiting) for waiting in batch))

    async def _apply_alone(self, waiting: _Waiting) -> None:
        try:
            (entry,) = await self._apply(self._environment, [waiting.work])
        except Exception as error:
            if not waiting.answer.done():
                waiting.answer.set_exception(error)
        else:
            self._answer(waiting, entry)

    def _answer(self, waiting: _Waiting, entry: Entry) -> None:
        before = self._seconds.get(waiting.type, entry.spent)
        self._seconds[waiting.type] = _MEMORY * before + (1 - _MEMORY) * entry.spent
        if not waiting.answer.done():  # the caller may be gone
            waiting.answer.set_result(entry)
