"""Signed delivery of events to webhook endpoints, with retries.

Each endpoint has a lane: a queue by due time, worked through by one task (or more, when asked).
An event that fails comes back later and lets the others pass, as at Stripe (stripe-facts 35).
"""

import asyncio
import contextlib
import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import httpx
import orjson

from billhook_sandbox.api_versions import render_event
from billhook_sandbox.clock import Clock
from billhook_sandbox.delivery_policy import DeliveryPolicy, plan_delivery
from billhook_sandbox.fault_injection import FaultInjector
from billhook_sandbox.signing import signature_header, valid_secrets
from billhook_sandbox.store import DataSet, Json

TEST_RETRIES = (5.0, 600.0, 7200.0)
LIVE_RETRIES = (*TEST_RETRIES, *(6 * 3600.0 for _ in range(11)))
"""Test mode tries three times more over a few hours, live mode for three days."""
MAX_GATHER_PERIODS = 10
"""In units of the gathering time: an endless stream of events is delivered all the same."""


def render_for_endpoint(data: DataSet, event: str, version: str | None) -> Json:
    """In the endpoint's own version, which may be newer than the account's, or in the event's."""
    told, newest = data.need("event", event), data.get("_newest_event", event)
    if version is None or newest is None:
        return render_event(data, told, version or told["api_version"])
    full = {**newest["event"], "pending_webhooks": told["pending_webhooks"]}
    return render_event(data, full, version)


class QueuedDelivery(NamedTuple):
    """What waits for its turn: sorted by when it is due, then by its place."""

    due: float
    place: float
    number: int
    delivery: str
    end: Literal["delivered", "copied", "lost"] = "delivered"
    """A copy's answer counts for nothing; a lost one takes its turn, but is not sent."""


@dataclass(slots=True)
class EndpointQueue:
    queue: list[QueuedDelivery] = field(default_factory=list)
    """By due time."""
    ready: list[tuple[float, QueuedDelivery]] = field(default_factory=list)
    """Due, by place."""
    number: int = 0
    under_way: int = 0
    opened: float = 0.0
    """When the gathering began and when the last one came, on the machine's own clock."""
    last: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def waiting(self) -> int:
        return len(self.queue) + len(self.ready)


class WebhookDispatcher:
    def __init__(
        self, clock: Clock, fault_injector: FaultInjector, commit: Callable[[DataSet], None]
    ) -> None:
        self.clock = clock
        self.fault_injector = fault_injector
        self.commit = commit
        self.manner = DeliveryPolicy()
        self.lanes: dict[str, tuple[DataSet, EndpointQueue]] = {}
        self.count = 0
        self.delivered = 0
        self.failed = 0
        self.rested = asyncio.Event()
        self.client: httpx.AsyncClient | None = None

    def add(self, data: DataSet, delivery: Json) -> None:
        if delivery["endpoint"] not in self.lanes:
            self.lanes[delivery["endpoint"]] = (data, EndpointQueue())
            if self.client:
                self.staff(delivery["endpoint"])
        _, lane = self.lanes[delivery["endpoint"]]
        self.enqueue(lane, delivery)
        lane.last = time.monotonic()
        if lane.waiting() == 1:
            lane.opened = lane.last
        lane.changed.set()

    def enqueue(self, lane: EndpointQueue, delivery: Json) -> None:
        self.count += 1
        name, due = delivery["id"], delivery["due"]
        if delivery["attempt"]:
            # A retry keeps its due time; no policy moves it again.
            heapq.heappush(lane.queue, QueuedDelivery(due, 0, self.count, name))
            return
        lane.number += 1
        found = plan_delivery(self.manner, lane.number)
        due += found.delay
        end: Literal["delivered", "lost"] = "lost" if found.lost else "delivered"
        heapq.heappush(lane.queue, QueuedDelivery(due, found.place, self.count, name, end))
        for place in () if found.lost else found.copies:
            heapq.heappush(lane.queue, QueuedDelivery(due, place, self.count, name, "copied"))

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

    def set_policy(self, manner: DeliveryPolicy) -> None:
        """A policy counts events from its beginning, so that its seed tells what comes."""
        self.manner = manner
        for endpoint, (_, lane) in self.lanes.items():
            lane.number = 0
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
            for parcel in (*lane.queue, *(parcel for _, parcel in lane.ready)):
                data.remove("_delivery", parcel.delivery)
            self.rested.set()

    def clear(self) -> None:
        for _, lane in self.lanes.values():
            for task in lane.tasks.values():
                task.cancel()
        self.lanes.clear()
        self.manner = DeliveryPolicy()
        self.delivered = self.failed = 0
        self.rested.set()

    def waiting(self) -> int:
        return sum(lane.waiting() for _, lane in self.lanes.values())

    async def rest(self) -> None:
        """Until nothing that is due is left to deliver."""
        while any(self.busy(lane) for _, lane in self.lanes.values()):
            self.rested.clear()
            await self.rested.wait()

    def busy(self, lane: EndpointQueue) -> bool:
        if self.manner.mode == "off":
            return lane.under_way > 0
        due = bool(lane.queue) and lane.queue[0].due <= self.clock.exact()
        return bool(lane.under_way or lane.ready or due)

    async def work(self, data: DataSet, lane: EndpointQueue, number: int) -> None:
        """One of the lane's workers; those beyond the wanted number stop between deliveries."""
        while number < self.manner.concurrency:
            lane.changed.clear()
            pause = self.pause(lane)
            if pause == 0:
                parcel = self.take(lane)
                lane.under_way += 1
                try:
                    await self.deliver(data, parcel)
                finally:
                    lane.under_way -= 1
                    self.rested.set()
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lane.changed.wait(), pause)

    def pause(self, lane: EndpointQueue) -> float | None:
        """Until the next delivery is due; none at all while deliveries are off."""
        if not lane.waiting() or self.manner.mode == "off":
            return None
        if lane.ready:
            return 0
        due = max(0.0, lane.queue[0].due - self.clock.exact())
        if due or self.manner.order == "created":
            return due
        quiet = lane.last + self.manner.gather
        latest = lane.opened + MAX_GATHER_PERIODS * self.manner.gather
        return max(0.0, min(quiet, latest) - time.monotonic())

    def take(self, lane: EndpointQueue) -> QueuedDelivery:
        """The one whose place is first among those that are due."""
        now = self.clock.exact()
        while lane.queue and lane.queue[0].due <= now and (not lane.ready or self.gathering()):
            parcel = heapq.heappop(lane.queue)
            heapq.heappush(lane.ready, (parcel.place, parcel))
        _, parcel = heapq.heappop(lane.ready)
        return parcel

    def gathering(self) -> bool:
        return self.manner.order != "created"

    async def deliver(self, data: DataSet, parcel: QueuedDelivery) -> None:
        event, _, name = parcel.delivery.partition(":")
        endpoint = data.get("webhook_endpoint", name)
        open_ = endpoint and endpoint["status"] == "enabled" and self.manner.mode != "drop"
        if parcel.end == "copied":
            if endpoint and open_:
                await self.post(data, endpoint, event)
            return
        delivery = data.get("_delivery", parcel.delivery)
        if delivery is None:
            return
        if endpoint is None or not open_ or parcel.end == "lost":
            data.remove("_delivery", parcel.delivery)
        elif await self.post(data, endpoint, event):
            self.delivered += 1
            data.remove("_delivery", parcel.delivery)
            told = data.need("event", event)
            data.put({**told, "pending_webhooks": told["pending_webhooks"] - 1})
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

    async def post(self, data: DataSet, endpoint: Json, event: str) -> bool:
        """One try, with a fresh timestamp and signature (stripe-facts 34)."""
        shown = self.fault_injector.with_requested_extras(
            render_for_endpoint(data, event, endpoint["api_version"])
        )
        body = orjson.dumps(shown, option=orjson.OPT_INDENT_2)
        # The receiver compares with its own clock, which doesn't follow the sandbox's.
        moment = int(time.time())
        secrets = valid_secrets(data, endpoint["id"])
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature_header(secrets, body, moment, data.livemode),
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
