"""Tasks that belong together: when one fails, the others end, too. And tasks that callers share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar

K = TypeVar("K")
T = TypeVar("T")


@asynccontextmanager
async def all_or_first_error() -> AsyncIterator[asyncio.TaskGroup]:
    """A task group that raises the first error itself, when all its tasks have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            yield group
    except BaseExceptionGroup as errors:
        first: BaseException = errors
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None


async def for_each(items: Iterable[T], work: Callable[[T], Awaitable[None]], at_once: int) -> None:
    """Do `work` for every item, for `at_once` of them at a time. The first error ends the rest."""
    slots = asyncio.Semaphore(at_once)

    async def one(item: T) -> None:
        async with slots:
            await work(item)

    async with all_or_first_error() as group:
        for each in items:
            group.create_task(one(each))


class SharedTasks(Generic[K, T]):
    """At most one running task per key. All callers that need its result meanwhile share it, or its
    error: with a lock instead, each of them would in turn wait for an attempt of its own to fail.

    Args:
        work: what a task does.
    """

    def __init__(self, work: Callable[[K], Coroutine[Any, Any, T]]) -> None:
        self._work = work
        self._tasks: dict[K, asyncio.Task[T]] = {}

    async def result(self, key: K) -> T:
        """The result of the task that is running for `key`, or of a new one. If a caller is
        cancelled, the task continues for the others.

        Raises:
            Exception: what `work` raised.
        """
        task = self._tasks.get(key)
        if task is None or task.done():
            task = self._tasks[key] = asyncio.create_task(self._work(key))
            task.add_done_callback(_retrieve)
        return await asyncio.shield(task)


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Without this, asyncio logs an error that no caller is left to receive."""
    if not task.cancelled():
        task.exception()
