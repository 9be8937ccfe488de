"""Signed delivery of events to webhook endpoints, in order of creation, with retries.

Each endpoint has a lane: a queue by due time, worked through by one task (or more, when asked).
An event that fails comes back later and lets the others pass, as at Stripe (stripe-facts 35).
"""

import asyncio
import contextlib
import hashlib
import heapq
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
import orjson

from billhook.sandbox.clock import Clock
from billhook.sandbox.ids import Ids
from billhook.sandbox.store import DataSet, Json

TIMEOUT_SECONDS = 10.0
TEST_RETRIES = (5.0, 600.0, 7200.0)
LIVE_RETRIES = (*TEST_RETRIES, *(6 * 3600.0 for _ in range(11)))
"""Test mode tries three times more over a few hours, live mode for three days."""


@dataclass(slots=True)
class Manner:
    """How deliveries are made; `/_sandbox/delivery` changes it."""

    mode: str = "on"
    order: str = "created"
    """`shuffled` mixes what happens at once: Stripe promises no order (stripe-facts 12)."""
    concurrency: int = 1
    retries: tuple[float, ...] | None = None
    timeout: float = TIMEOUT_SECONDS


@dataclass(slots=True)
class Lane:
    queue: list[tuple[float, int, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)


def signature_header(secret: str, body: bytes, moment: int, livemode: bool) -> str:
    """Test mode carries a `v0` besides, which receivers must ignore (stripe-facts 34)."""
    signed = hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()
    header = f"t={moment},v1={signed}"
    if livemode:
        return header
    return f"{header},v0={hmac.new(b'v0', body, hashlib.sha256).hexdigest()}"


class Courier:
    def __init__(self, clock: Clock, ids: Ids, commit: Callable[[DataSet], None]) -> None:
        self.clock = clock
        self.ids = ids
        self.commit = commit
        self.manner = Manner()
        self.lanes: dict[str, tuple[DataSet, Lane]] = {}
        self.count = 0
        self.delivered = 0
        self.failed = 0
        self.client: httpx.AsyncClient | None = None

    def add(self, data: DataSet, delivery: Json) -> None:
        if delivery["endpoint"] not in self.lanes:
            self.lanes[delivery["endpoint"]] = (data, Lane())
            if self.client:
                self.staff(delivery["endpoint"])
        _, lane = self.lanes[delivery["endpoint"]]
        self.count += 1
        place, due = self.count, delivery["due"]
        if self.manner.order == "shuffled":
            place, due = int.from_bytes(self.ids.entropy(8)), float(int(due))
        heapq.heappush(lane.queue, (due, place, delivery["id"]))
        lane.changed.set()

    async def start(self) -> None:
        self.client = httpx.AsyncClient(follow_redirects=False, trust_env=False)
        for endpoint in self.lanes:
            self.staff(endpoint)

    async def stop(self) -> None:
        self.clear()
        if self.client:
            await self.client.aclose()

    def staff(self, endpoint: str) -> None:
        data, lane = self.lanes[endpoint]
        for number in range(self.manner.concurrency):
            if number not in lane.tasks or lane.tasks[number].done():
                lane.tasks[number] = asyncio.create_task(self.work(data, lane, number))

    def set_manner(self, manner: Manner) -> None:
        self.manner = manner
        for endpoint in self.lanes:
            self.staff(endpoint)
        self.wake()

    def wake(self) -> None:
        for _, lane in self.lanes.values():
            lane.changed.set()

    def close(self, endpoint: str) -> None:
        """A deleted endpoint gets no more, not even what already waits."""
        if endpoint in self.lanes:
            data, lane = self.lanes.pop(endpoint)
            for task in lane.tasks.values():
                task.cancel()
            for _, _, name in lane.queue:
                data.remove("_delivery", name)

    def clear(self) -> None:
        for _, lane in self.lanes.values():
            for task in lane.tasks.values():
                task.cancel()
        self.lanes.clear()
        self.manner = Manner()
        self.delivered = self.failed = 0

    def waiting(self) -> int:
        return sum(len(lane.queue) for _, lane in self.lanes.values())

    async def work(self, data: DataSet, lane: Lane, number: int) -> None:
        """One of the lane's workers; those beyond the wanted number stop between deliveries."""
        while number < self.manner.concurrency:
            lane.changed.clear()
            pause = self.pause(lane)
            if pause == 0:
                _, _, name = heapq.heappop(lane.queue)
                await self.deliver(data, name)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lane.changed.wait(), pause)

    def pause(self, lane: Lane) -> float | None:
        """Until the next delivery is due; none at all while deliveries are off."""
        if not lane.queue or self.manner.mode == "off":
            return None
        return max(0.0, lane.queue[0][0] - self.clock.exact())

    async def deliver(self, data: DataSet, name: str) -> None:
        delivery = data.get("_delivery", name)
        if delivery is None:
            return
        endpoint = data.get("webhook_endpoint", delivery["endpoint"])
        if endpoint is None or endpoint["status"] != "enabled" or self.manner.mode == "drop":
            data.remove("_delivery", name)
        elif await self.post(data, endpoint, data.need("event", delivery["event"])):
            self.delivered += 1
            data.remove("_delivery", name)
            event = data.need("event", delivery["event"])
            data.put({**event, "pending_webhooks": event["pending_webhooks"] - 1})
        else:
            self.failed += 1
            self.postpone(data, delivery)
        self.commit(data)

    def postpone(self, data: DataSet, delivery: Json) -> None:
        retries = self.manner.retries or (LIVE_RETRIES if data.livemode else TEST_RETRIES)
        attempt = delivery["attempt"]
        if attempt >= len(retries):
            # Given up; the event goes on counting it as undelivered.
            data.remove("_delivery", delivery["id"])
            return
        due = self.clock.exact() + retries[attempt]
        data.put({**delivery, "attempt": attempt + 1, "due": due})

    async def post(self, data: DataSet, endpoint: Json, event: Json) -> bool:
        """One try, with a fresh timestamp and signature (stripe-facts 34)."""
        body = orjson.dumps(event, option=orjson.OPT_INDENT_2)
        secret = data.need("_signing_secret", endpoint["id"])["secret"]
        # The receiver compares with its own clock, which doesn't follow the sandbox's.
        moment = int(time.time())
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature_header(secret, body, moment, data.livemode),
        }
        if self.client is None:
            return False
        try:
            answer = await self.client.post(
                endpoint["url"], content=body, headers=headers, timeout=self.manner.timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return answer.is_success
