"""When a lease is lost, everything that was under way for it ends. Callers share tasks."""

from __future__ import annotations

import asyncio
import gc
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from billhook.mirror import refreshes
from billhook.mirror.verify import paid
from billhook.postgres.leases import LeaseLost
from billhook.task_groups import SharedTasks, for_each


class Stopped:
    """Work that goes on until it is cancelled, beside work that finds the lease lost."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.was_cancelled = False

    async def go_on(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise

    async def find_the_lease_lost(self) -> None:
        await self.started.wait()
        raise LeaseLost("The lease was lost.")


class StripeReader:
    """As much of `mirror.StripeReader` as is needed to begin."""

    environment = "test"

    def __init__(self) -> None:
        self.database = self

    @asynccontextmanager
    async def connection(self) -> Any:
        yield self

    async def fetchval(self, *_: object) -> int:
        return 1


def test_refreshes_end_with_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> bool:
        stopped = Stopped()

        async def refresh(_asking: object, mark: Any) -> bool:
            await (stopped.go_on() if mark.object_id == "a" else stopped.find_the_lease_lost())
            return True

        monkeypatch.setattr(refreshes, "_refresh", refresh)
        now = datetime.now(UTC)
        marks = [refreshes._Mark("customer", each, now) for each in ("a", "b")]
        with pytest.raises(LeaseLost):
            await refreshes._ask(StripeReader(), marks)  # type: ignore[arg-type]
        return stopped.was_cancelled

    assert asyncio.run(work())


def test_a_verification_of_payments_ends_with_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> bool:
        stopped = Stopped()

        async def compare(_asking: object, kind: str, *_: object, **__: object) -> None:
            await (stopped.go_on() if kind == "charge" else stopped.find_the_lease_lost())

        monkeypatch.setattr(paid, "_compare", compare)
        with pytest.raises(LeaseLost):
            await paid.compare_payments(StripeReader(), 0, None, repair=None)  # type: ignore[arg-type]
        return stopped.was_cancelled

    assert asyncio.run(work())


def test_each_item_is_worked_on_once_and_no_more_at_a_time_than_allowed() -> None:
    async def work() -> tuple[list[int], int]:
        done: list[int] = []
        running = most = 0

        async def one(item: int) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            running -= 1
            done.append(item)

        await for_each(range(10), one, 3)
        return done, most

    done, most = asyncio.run(work())
    assert sorted(done) == list(range(10))
    assert most == 3


def test_the_first_error_ends_the_work_on_the_other_items() -> None:
    async def work() -> bool:
        stopped = Stopped()

        async def one(fails: bool) -> None:
            await (stopped.find_the_lease_lost() if fails else stopped.go_on())

        with pytest.raises(LeaseLost):
            await for_each([False, True], one, 2)
        return stopped.was_cancelled

    assert asyncio.run(work())


def test_callers_share_a_running_task_and_the_next_one_starts_another() -> None:
    async def work() -> list[int]:
        started: list[str] = []

        async def count(key: str) -> int:
            started.append(key)
            await asyncio.sleep(0)
            return len(started)

        shared = SharedTasks(count)
        together = await asyncio.gather(*(shared.result("a") for _ in range(3)))
        return [*together, await shared.result("a")]

    assert asyncio.run(work()) == [1, 1, 1, 2]


def test_a_caller_that_is_cancelled_leaves_the_task_to_the_others() -> None:
    async def work() -> str:
        may_end = asyncio.Event()

        async def wait(key: str) -> str:
            await may_end.wait()
            return key

        shared = SharedTasks(wait)
        first, second = (asyncio.ensure_future(shared.result("a")) for _ in range(2))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        may_end.set()
        return await second

    assert asyncio.run(work()) == "a"


def test_an_error_that_no_caller_is_left_to_receive_is_not_logged() -> None:
    async def work() -> list[dict[str, Any]]:
        logged: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, found: logged.append(found))
        may_end = asyncio.Event()

        async def fail(_: str) -> None:
            await may_end.wait()
            raise LeaseLost("The lease was lost.")

        shared = SharedTasks(fail)
        caller = asyncio.ensure_future(shared.result("a"))
        await asyncio.sleep(0)
        caller.cancel()
        await asyncio.wait([caller])
        may_end.set()
        await asyncio.wait(shared._tasks.values())
        del caller, shared
        gc.collect()
        return logged

    assert asyncio.run(work()) == []
