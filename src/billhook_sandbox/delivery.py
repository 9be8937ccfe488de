"""Signed delivery of events to webhook endpoints, with retries.

Each endpoint has a queue by due time, and one worker task (or as many as the policy allows).
A failed delivery is retried later and does not hold up the others (stripe-facts 35).
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
"""Seconds before each retry: three retries over a few hours in test mode, three days in live."""
MAX_GATHER_PERIODS = 10
"""A burst ends after this many gathering periods even if events keep coming."""


def render_for_endpoint(data: DataSet, event: str, version: str | None) -> Json:
    """The event in the endpoint's API version, which may be newer than the account's; an endpoint
    without a version gets the event's own."""
    stored, newest = data.need("event", event), data.get("_newest_event", event)
    if version is None or newest is None:
        return render_event(data, stored, version or stored["api_version"])
    unrendered = {**newest["event"], "pending_webhooks": stored["pending_webhooks"]}
    return render_event(data, unrendered, version)


class QueuedDelivery(NamedTuple):
    """One entry of an endpoint's queue, sorted by due time, then by position."""

    due: float
    position: float
    number: int
    delivery: str
    """The id of the stored delivery."""
    kind: Literal["original", "duplicate", "lost"] = "original"
    """The response to a duplicate is ignored; a lost delivery is never sent."""


@dataclass(slots=True)
class EndpointQueue:
    upcoming: list[QueuedDelivery] = field(default_factory=list)
    """A heap by due time."""
    ready: list[tuple[float, QueuedDelivery]] = field(default_factory=list)
    """Deliveries that are due: a heap by position."""
    count: int = 0
    """Deliveries added since the policy started."""
    in_flight: int = 0
    burst_start: float = 0.0
    """When the current burst started and when its last event came, by the monotonic clock."""
    burst_end: float = 0.0
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    workers: dict[int, asyncio.Task[None]] = field(default_factory=dict)

    def waiting(self) -> int:
        return len(self.upcoming) + len(self.ready)


class WebhookDispatcher:
    def __init__(
        self, clock: Clock, fault_injector: FaultInjector, commit: Callable[[DataSet], None]
    ) -> None:
        self.clock = clock
        self.fault_injector = fault_injector
        self.commit = commit
        self.policy = DeliveryPolicy()
        self.queues: dict[str, tuple[DataSet, EndpointQueue]] = {}
        self.count = 0
        self.delivered = 0
        self.failed = 0
        self.progress = asyncio.Event()
        """Set whenever a delivery ends, for callers of `wait_until_idle`."""
        self.client: httpx.AsyncClient | None = None

    def add(self, data: DataSet, delivery: Json) -> None:
        endpoint = delivery["endpoint"]
        if endpoint not in self.queues:
            self.queues[endpoint] = (data, EndpointQueue())
            if self.client:
                self.start_workers(endpoint)
        _, queue = self.queues[endpoint]
        self.enqueue(queue, delivery)
        queue.burst_end = time.monotonic()
        if queue.waiting() == 1:
            queue.burst_start = queue.burst_end
        queue.changed.set()

    def enqueue(self, queue: EndpointQueue, delivery: Json) -> None:
        self.count += 1
        delivery_id, due = delivery["id"], delivery["due"]
        if delivery["attempt"]:
            # The policy does not apply to retries.
            heapq.heappush(queue.upcoming, QueuedDelivery(due, 0, self.count, delivery_id))
            return
        queue.count += 1
        plan = plan_delivery(self.policy, queue.count)
        due += plan.delay
        kind: Literal["original", "lost"] = "lost" if plan.lost else "original"
        heapq.heappush(
            queue.upcoming, QueuedDelivery(due, plan.position, self.count, delivery_id, kind)
        )
        for position in () if plan.lost else plan.duplicates:
            heapq.heappush(
                queue.upcoming, QueuedDelivery(due, position, self.count, delivery_id, "duplicate")
            )

    async def start(self) -> None:
        self.client = httpx.AsyncClient(follow_redirects=False, trust_env=False)
        for endpoint in self.queues:
            self.start_workers(endpoint)

    async def stop(self) -> None:
        self.clear()
        if self.client:
            await self.client.aclose()

    def start_workers(self, endpoint: str) -> None:
        data, queue = self.queues[endpoint]
        for number in range(self.policy.concurrency):
            if number not in queue.workers or queue.workers[number].done():
                queue.workers[number] = asyncio.create_task(self.work(data, queue, number))

    def set_policy(self, policy: DeliveryPolicy) -> None:
        """Counting starts again, so that the seed alone determines what follows."""
        self.policy = policy
        for endpoint, (_, queue) in self.queues.items():
            queue.count = 0
            self.start_workers(endpoint)
        self.wake()

    def wake(self) -> None:
        for _, queue in self.queues.values():
            queue.changed.set()

    def remove_endpoint(self, endpoint: str) -> None:
        """A deleted endpoint gets nothing more, not even deliveries that are already queued."""
        if endpoint in self.queues:
            data, queue = self.queues.pop(endpoint)
            for worker in queue.workers.values():
                worker.cancel()
            for queued in (*queue.upcoming, *(queued for _, queued in queue.ready)):
                data.remove("_delivery", queued.delivery)
            self.progress.set()

    def clear(self) -> None:
        for _, queue in self.queues.values():
            for worker in queue.workers.values():
                worker.cancel()
        self.queues.clear()
        self.policy = DeliveryPolicy()
        self.delivered = self.failed = 0
        self.progress.set()

    def waiting(self) -> int:
        return sum(queue.waiting() for _, queue in self.queues.values())

    async def wait_until_idle(self) -> None:
        """Returns when no delivery is in flight or due."""
        while any(self.is_busy(queue) for _, queue in self.queues.values()):
            self.progress.clear()
            await self.progress.wait()

    def is_busy(self, queue: EndpointQueue) -> bool:
        if self.policy.mode == "off":
            return queue.in_flight > 0
        due = bool(queue.upcoming) and queue.upcoming[0].due <= self.clock.exact()
        return bool(queue.in_flight or queue.ready or due)

    async def work(self, data: DataSet, queue: EndpointQueue, number: int) -> None:
        """One worker of a queue; it ends when the policy's concurrency no longer includes it."""
        while number < self.policy.concurrency:
            queue.changed.clear()
            delay = self.seconds_to_next(queue)
            if delay == 0:
                queued = self.pop_next(queue)
                queue.in_flight += 1
                try:
                    await self.deliver(data, queued)
                finally:
                    queue.in_flight -= 1
                    self.progress.set()
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(queue.changed.wait(), delay)

    def seconds_to_next(self, queue: EndpointQueue) -> float | None:
        """Seconds until the next delivery; None if nothing is queued or deliveries are off."""
        if not queue.waiting() or self.policy.mode == "off":
            return None
        if queue.ready:
            return 0
        delay = max(0.0, queue.upcoming[0].due - self.clock.exact())
        if delay or not self.gathers():
            return delay
        quiet = queue.burst_end + self.policy.gather
        latest = queue.burst_start + MAX_GATHER_PERIODS * self.policy.gather
        return max(0.0, min(quiet, latest) - time.monotonic())

    def pop_next(self, queue: EndpointQueue) -> QueuedDelivery:
        """Of the deliveries that are due, the one with the lowest position."""
        now = self.clock.exact()
        while (
            queue.upcoming and queue.upcoming[0].due <= now and (not queue.ready or self.gathers())
        ):
            queued = heapq.heappop(queue.upcoming)
            heapq.heappush(queue.ready, (queued.position, queued))
        _, queued = heapq.heappop(queue.ready)
        return queued

    def gathers(self) -> bool:
        """Whether the policy collects bursts to deliver them in another order."""
        return self.policy.order != "created"

    async def deliver(self, data: DataSet, queued: QueuedDelivery) -> None:
        event_id, _, endpoint_id = queued.delivery.partition(":")
        endpoint = data.get("webhook_endpoint", endpoint_id)
        enabled = endpoint and endpoint["status"] == "enabled" and self.policy.mode != "drop"
        if queued.kind == "duplicate":
            if endpoint and enabled:
                await self.post(data, endpoint, event_id)
            return
        delivery = data.get("_delivery", queued.delivery)
        if delivery is None:
            return
        if endpoint is None or not enabled or queued.kind == "lost":
            data.remove("_delivery", queued.delivery)
        elif await self.post(data, endpoint, event_id):
            self.delivered += 1
            data.remove("_delivery", queued.delivery)
            event = data.need("event", event_id)
            data.put({**event, "pending_webhooks": event["pending_webhooks"] - 1})
        else:
            self.failed += 1
            self.schedule_retry(data, delivery)
        self.commit(data)

    def schedule_retry(self, data: DataSet, delivery: Json) -> None:
        retries = self.policy.retries or (LIVE_RETRIES if data.livemode else TEST_RETRIES)
        attempt = delivery["attempt"]
        if attempt >= len(retries):
            # No more retries; the event's `pending_webhooks` still counts this endpoint.
            data.remove("_delivery", delivery["id"])
            return
        due = self.clock.exact() + retries[attempt]
        data.put({**delivery, "attempt": attempt + 1, "due": due})

    async def post(self, data: DataSet, endpoint: Json, event: str) -> bool:
        """One attempt, with a new timestamp and signature (stripe-facts 34)."""
        rendered = self.fault_injector.add_extra_keys(
            render_for_endpoint(data, event, endpoint["api_version"])
        )
        body = orjson.dumps(rendered, option=orjson.OPT_INDENT_2)
        # The receiver compares the timestamp with its own clock, not with the sandbox's.
        timestamp = int(time.time())
        secrets = valid_secrets(data, endpoint["id"])
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature_header(secrets, body, timestamp, data.livemode),
        }
        if self.client is None:
            return False
        try:
            response = await self.client.post(
                endpoint["url"], content=body, headers=headers, timeout=self.policy.timeout
            )
        except (httpx.HTTPError, httpx.InvalidURL):
            return False
        return response.is_success
