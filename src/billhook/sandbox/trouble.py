"""Trouble on request: slow answers, failing requests, revoked keys."""

import asyncio
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Fault:
    """The next `times` requests that match fail with `status`.

    `after_effect` lets the request take effect and loses only its answer; then the idempotency
    key replays the true answer, unless `stored` says that the failure itself is remembered, as
    Stripe does with an error 500 of its own (stripe-facts 37).
    """

    status: int
    method: str | None = None
    path_prefix: str = "/v1/"
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after_effect: bool = False
    stored: bool = False

    def matches(self, method: str, path: str) -> bool:
        return (
            self.times > 0 and self.method in (None, method) and path.startswith(self.path_prefix)
        )

    def answer(self) -> dict[str, Any]:
        error = {"type": "api_error", "message": "The sandbox was asked to fail this request."}
        return self.body if self.body is not None else {"error": error}


@dataclass(slots=True)
class Trouble:
    faults: list[Fault] = field(default_factory=list)
    latency: dict[str, float] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.matches(method, path):
                fault.times -= 1
                return fault
        return None

    async def delay(self, path: str) -> None:
        seconds = max((s for p, s in self.latency.items() if path.startswith(p)), default=0)
        if seconds:
            await asyncio.sleep(seconds)

    def clear(self) -> None:
        self.faults.clear()
        self.latency.clear()
        self.revoked.clear()
