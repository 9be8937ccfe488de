"""Requests that can wait go out evenly, also after Stripe has asked for a pause."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from itertools import count, pairwise
from typing import Any

import pytest

from billhook.stripe.governor import Governor


class Time:
    """Virtual time, which passes when every task sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = count()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, next(self._numbers), woken))
        await woken.wait()

    async def run(self, *work: Awaitable[None]) -> None:
        tasks = [asyncio.ensure_future(each) for each in work]
        while not all(task.done() for task in tasks):
            for _ in range(5 * len(tasks)):
                await asyncio.sleep(0)
            if self._sleepers:
                self.now, _, woken = heapq.heappop(self._sleepers)
                woken.set()
        await asyncio.gather(*tasks)


def sent(scenario: Callable[[Time, Governor, list[float]], Any], **limits: Any) -> list[float]:
    """Seconds, from the start, at which requests go out."""
    time, at = Time(), []
    governor = Governor(
        limits.get("per_list", 10), limits.get("total", {}), clock=time, sleep=time.sleep
    )

    async def work() -> None:
        await scenario(time, governor, at)

    asyncio.run(work())
    return [round(each - 100, 6) for each in at]


async def request(
    time: Time, governor: Governor, at: list[float], list_name: str = "products"
) -> None:
    await governor.turn("test", list_name)
    at.append(time.now)


async def later(time: Time, seconds: float, work: Callable[[], None]) -> None:
    await time.sleep(seconds)
    work()


def test_requests_to_one_list_go_out_one_after_the_other() -> None:
    async def scenario(time: Time, governor: Governor, at: list[float]) -> None:
        await time.run(*(request(time, governor, at) for _ in range(4)))

    assert sent(scenario) == [0, 0.1, 0.2, 0.3]


@pytest.mark.parametrize("lists", [1, 4])
def test_after_a_pause_the_waiting_requests_still_come_one_turn_after_the_other(lists: int) -> None:
    async def scenario(time: Time, governor: Governor, at: list[float]) -> None:
        waiting = (request(time, governor, at, f"list {n % lists}") for n in range(20))
        refused = later(time, 0.25, lambda: governor.pause("test", 5))
        again = later(time, 2, lambda: governor.pause("test", 6))
        await time.run(*waiting, refused, again)

    at = sent(scenario, total={"test": 10.0})
    assert at[:3] == [0, 0.1, 0.2]
    assert at[3] == pytest.approx(8.05)
    assert [b - a for a, b in pairwise(at[3:])] == pytest.approx([0.1] * 16)


def test_requests_that_come_during_a_pause_wait_behind_the_others() -> None:
    async def scenario(time: Time, governor: Governor, at: list[float]) -> None:
        governor.pause("test", 3)
        first = [request(time, governor, at) for _ in range(3)]

        async def refused_and_tried_again() -> None:
            await time.sleep(1)
            governor.pause("test", 1)  # shorter than what is left
            await request(time, governor, at)

        await time.run(*first, refused_and_tried_again())

    assert sent(scenario) == [3, 3.1, 3.2, 3.3]


def test_live_traffic_takes_its_share_and_never_waits() -> None:
    async def scenario(time: Time, governor: Governor, at: list[float]) -> None:
        governor.live("test")
        governor.live("test")
        await time.run(*(request(time, governor, at, str(n)) for n in range(2)))

    assert sent(scenario, total={"test": 10.0}) == [0.2, 0.3]


def test_live_traffic_holds_up_the_rest_for_a_second_at_most() -> None:
    def flood(_: Time, governor: Governor, at: list[float]) -> Any:
        for _ in range(1000):
            governor.live("test")
        return governor.turn("test", "events")

    time = Time()
    governor = Governor(10, {"test": 22}, clock=time, sleep=time.sleep)
    asyncio.run(time.run(flood(time, governor, [])))
    assert time.now - 100.0 <= 1.1


def test_live_traffic_counts_however_many_requests_wait() -> None:
    """The sender of usage has some 200 requests that wait at once."""
    time, at = Time(), []
    governor = Governor(10, {"test": 25}, clock=time, sleep=time.sleep)

    async def usage() -> None:
        await governor.meter_event("test")
        at.append(time())

    async def live() -> None:
        for _ in range(50):
            await time.sleep(0.1)
            governor.live("test")
            at.append(time())

    asyncio.run(time.run(live(), *(usage() for _ in range(100))))
    at.sort()
    assert len(at) == 150
    for number, first in enumerate(at):
        assert len([each for each in at[number:] if each < first + 1 - 1e-9]) <= 26


def test_waking_up_late_costs_no_slots() -> None:
    time = Time()

    async def sleep(seconds: float) -> None:
        await time.sleep(seconds + 0.004)

    governor = Governor(10, {}, usage=1000, clock=time, sleep=sleep)
    asyncio.run(time.run(*(governor.meter_event("live") for _ in range(1000))))
    assert time.now - 100 < 1.1


def meter_events(environment: Any, **limits: Any) -> list[float]:
    """Seconds at which meter events go out, beside a list in the same account."""
    time, at = Time(), []
    governor = Governor(10, {"test": 20, "live": 20}, clock=time, sleep=time.sleep, **limits)

    async def usage() -> None:
        for _ in range(4):
            await governor.meter_event(environment)
            at.append(round(time() - 100, 6))

    async def others() -> None:
        for _ in range(4):
            await governor.turn(environment, "products")

    asyncio.run(time.run(usage(), others()))
    return at


def test_meter_events_have_a_rate_of_their_own_in_live_mode() -> None:
    assert meter_events("live", usage=1000) == [0, 0.001, 0.002, 0.003]
    assert meter_events("live") == [0, 0, 0, 0]


def test_meter_events_count_toward_the_total_in_test_mode() -> None:
    """Each waits for 1/20 s after whatever went out before it."""
    at = meter_events("test", usage=1000)
    assert at[-1] >= 3 * 0.05
    assert all(later - earlier >= 0.05 - 1e-9 for earlier, later in pairwise(at))


def test_a_pause_of_meter_events_in_live_mode_delays_no_list() -> None:
    time, at = Time(), []
    governor = Governor(10, {}, usage=1000, clock=time, sleep=time.sleep)

    async def work() -> None:
        governor.pause_usage("live", 5)
        await governor.turn("live", "products")
        at.append(time() - 100)
        await governor.meter_event("live")
        at.append(time() - 100)

    asyncio.run(time.run(work()))
    assert at == [0, 5]
