"""Faults on request: slow or failing responses, closed connections, denied keys, unknown fields."""

import asyncio
from dataclasses import dataclass, field
from random import Random
from typing import Any, Literal, get_args

from billhook_sandbox.errors import Forbidden
from billhook_sandbox.keys import masked
from billhook_sandbox.store import Json

RateReason = Literal[
    "endpoint-concurrency",
    "endpoint-rate",
    "global-concurrency",
    "global-rate",
    "resource-specific",
]
"""The values of the header `Stripe-Rate-Limited-Reason` (stripe-facts 41)."""

Access = Literal["none", "read", "write"]


@dataclass(slots=True)
class Fault:
    """The next `times` matching requests fail with `status`, are slow, or get no response.

    With `after_effect` the request takes effect and only its response is lost. A retry with the
    same idempotency key then gets the real response, or with `stored` the failure: Stripe stores
    its own 500s (stripe-facts 37). With `stored` alone, the failure is stored and nothing happens.
    """

    status: int | None = None
    method: str | None = None
    path_prefix: str = "/v1/"
    body: dict[str, Any] | None = None
    headers: dict[str, str] = field(default_factory=dict)
    times: int = 1
    after_effect: bool = False
    stored: bool = False
    reason: RateReason | None = None
    """Goes with status 429. A 429 without a reason is a `lock_timeout`."""
    seconds: float = 0
    """Delays the response. Without `status` or `cut`, the real response follows."""
    cut: bool = False
    """Closes the connection without a response."""
    share: float = 1
    """The share of matching requests that fail, chosen at random with a fixed seed."""

    def problem(self) -> str | None:
        """What is invalid, as a sentence; None for a valid fault."""
        if self.status is None and not self.seconds and not self.cut:
            return "A fault needs `status`, `seconds` or `cut`."
        if self.status is not None and not 400 <= self.status <= 599:
            return "`status` must be between 400 and 599."
        if self.reason is not None and (
            self.reason not in get_args(RateReason) or self.status != 429
        ):
            return (
                f"`reason` needs status 429 and must be one of {', '.join(get_args(RateReason))}."
            )
        if self.seconds < 0 or self.times < 1:
            return "`seconds` must not be negative, and `times` must be at least 1."
        if not 0 < self.share <= 1:
            return "`share` must be greater than 0 and at most 1."
        return None

    @property
    def fails(self) -> bool:
        return self.status is not None or self.cut

    def matches(self, method: str, path: str) -> bool:
        return (
            self.times > 0 and self.method in (None, method) and path.startswith(self.path_prefix)
        )

    @property
    def has_effect(self) -> bool:
        return self.after_effect or not self.fails

    def all_headers(self) -> dict[str, str]:
        limited = {"Stripe-Rate-Limited-Reason": self.reason} if self.reason else {}
        return {**limited, **self.headers}

    def response_body(self) -> dict[str, Any]:
        return self.body if self.body is not None else {"error": self.error()}

    def error(self) -> Json:
        """Stripe's own message for the three errors that clients distinguish."""
        if self.status == 429 and self.reason is None:
            message = "This object cannot be accessed right now because another request is "
            message += "currently accessing it."
            return {"type": "invalid_request_error", "code": "lock_timeout", "message": message}
        if self.status == 429:
            message = "Request rate limit exceeded."
            return {"type": "invalid_request_error", "code": "rate_limit", "message": message}
        if self.status == 409:
            message = "There is currently another in-progress request using this Idempotency Key."
            code = "idempotency_key_in_use"
            return {"type": "invalid_request_error", "code": code, "message": message}
        return {"type": "api_error", "message": "The sandbox was asked to fail this request."}


@dataclass(slots=True)
class FaultInjector:
    faults: list[Fault] = field(default_factory=list)
    latency: dict[str, float] = field(default_factory=dict)
    revoked: set[str] = field(default_factory=set)
    access: dict[str, dict[str, Access]] = field(default_factory=dict)
    """Restricted key -> resource, such as `customers` or `checkout/sessions` -> its access."""
    extra_keys: bool = False
    random: Random = field(default_factory=lambda: Random(0))  # noqa: S311

    def fault_for(self, method: str, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.matches(method, path) and self.random.random() < fault.share:
                fault.times -= 1
                self.faults = [each for each in self.faults if each.times > 0]
                return fault
        return None

    async def delay(self, path: str, fault: Fault | None) -> None:
        seconds = max((s for p, s in self.latency.items() if path.startswith(p)), default=0)
        seconds += fault.seconds if fault else 0
        if seconds:
            await asyncio.sleep(seconds)

    def check_access(self, key: str, method: str, path: str) -> None:
        """Restricted keys have full access except to the resources named here."""
        needed = "read" if method == "GET" else "write"
        for resource, granted in self.access.get(key, {}).items():
            relative_path = path.removeprefix("/v1/")
            if relative_path != resource and not relative_path.startswith(f"{resource}/"):
                continue
            if granted == "none" or (granted == "read" and needed == "write"):
                raise Forbidden(
                    f"The provided key '{masked(key)}' does not have the required permissions for "
                    f"this endpoint. Having the '{needed}' permission for '{resource}' would allow "
                    "this request to continue."
                )

    def add_extra_keys(self, body: Any) -> Any:
        """With `extra_keys` on, every object gets fields that no type lists (stripe-facts 1)."""
        return with_extra_keys(body) if self.extra_keys else body

    def clear(self) -> None:
        self.faults.clear()
        self.latency.clear()
        self.revoked.clear()
        self.access.clear()
        self.extra_keys = False


def with_extra_keys(node: Any) -> Any:
    if isinstance(node, list):
        return [with_extra_keys(item) for item in node]
    if not isinstance(node, dict):
        return node
    found = {key: with_extra_keys(value) for key, value in node.items()}
    if isinstance(found.get("object"), str):
        found |= {"sandbox_unknown": {"nested": [1, None]}, "sandbox_unknown_flag": True}
        if found["object"] == "charge":
            found = {"destination": None, "dispute": None, "order": None, **found}
    return found
