"""Bodies are bounded in size, in time and in the memory that they take together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from starlette.requests import Request

from billhook.bodies import Bodies
from billhook.errors import BillhookError

LIMIT = 1_000_000


class Sender:
    """A client that sends what it is told to, and nothing else."""

    def __init__(self, *, length: int | None = None) -> None:
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        self._chunks: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.request = Request({"type": "http", "headers": headers}, self._chunks.get)

    def send(self, chunk: bytes, *, more: bool = True) -> Sender:
        self._chunks.put_nowait({"type": "http.request", "body": chunk, "more_body": more})
        return self


async def body_of(bodies: Bodies, sender: Sender) -> bytes:
    async with bodies.read(sender.request, LIMIT) as body:
        return body


def refused(work: Callable[[], Awaitable[Any]]) -> int:
    async def limited() -> None:
        async with asyncio.timeout(20):
            await work()

    with pytest.raises(BillhookError) as refusal:
        asyncio.run(limited())
    return refusal.value.status


def test_a_body_arrives_whole_in_any_pieces() -> None:
    sender = Sender().send(b"a").send(b"").send(b"b" * 500_000).send(b"c", more=False)
    assert asyncio.run(body_of(Bodies(), sender)) == b"a" + b"b" * 500_000 + b"c"


@pytest.mark.parametrize("length", [LIMIT, 10**30])
def test_a_body_that_says_it_is_too_large_is_not_read_at_all(length: int) -> None:
    assert refused(lambda: body_of(Bodies(), Sender(length=length))) == 413


def test_a_body_that_does_not_say_how_large_it_is_is_read_up_to_the_limit() -> None:
    sender = Sender().send(b"a" * (LIMIT - 1)).send(b"b")
    assert refused(lambda: body_of(Bodies(), sender)) == 413


def test_a_body_that_comes_too_slowly_is_refused() -> None:
    assert refused(lambda: body_of(Bodies(within=0.05), Sender().send(b"a"))) == 408


def test_large_bodies_wait_for_each_other_and_small_ones_pass_by() -> None:
    async def work() -> None:
        bodies = Bodies(within=10)
        large = [Sender().send(b"a" * 100_000) for _ in range(10)]
        reading = [asyncio.create_task(body_of(bodies, each)) for each in large]
        small = Sender().send(b"b" * 60_000).send(b"", more=False)
        assert len(await body_of(bodies, small)) == 60_000
        for each in large:
            each.send(b"", more=False)
        assert [len(each) for each in await asyncio.gather(*reading)] == [100_000] * 10

    asyncio.run(work())


def test_when_there_are_too_many_large_ones_the_next_is_told_to_come_again() -> None:
    async def work() -> None:
        slow = Bodies(within=0.2)
        for _ in range(4):
            sender = Sender().send(b"a" * 100_000).send(b"", more=False)
            await held.enter_async_context(slow.read(sender.request, LIMIT))
        await body_of(slow, Sender().send(b"a" * 100_000))

    from contextlib import AsyncExitStack

    held = AsyncExitStack()
    assert refused(work) == 503


def test_at_shutdown_what_has_not_arrived_is_refused_soon() -> None:
    async def work() -> None:
        bodies = Bodies(within=3600)
        reading = asyncio.create_task(body_of(bodies, Sender().send(b"a")))
        await asyncio.sleep(0)
        bodies.stop()
        await reading

    assert refused(work) == 408
