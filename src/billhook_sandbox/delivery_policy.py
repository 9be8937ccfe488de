"""The delivery policy: the order, delays, duplicates and losses of webhook deliveries.

The same seed and the same sequence of events give the same plans on every machine.
"""

from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, get_args

Mode = Literal["on", "off", "drop"]
Order = Literal["created", "shuffled", "reversed"]

TIMEOUT_SECONDS = 10.0
GATHER_SECONDS = 0.25


@dataclass(slots=True)
class DeliveryPolicy:
    """How events are delivered; `/_sandbox/delivery` changes it."""

    mode: Mode = "on"
    """`off` holds deliveries back until `on`; `drop` discards all of them."""
    order: Order = "created"
    """Orders other than `created` gather a burst of events first: Stripe guarantees no order
    (stripe-facts 12)."""
    gather: float = GATHER_SECONDS
    """A burst ends when no event has come for this many seconds."""
    duplicate: float = 0.0
    """The share of deliveries that are sent twice, the second time at another position."""
    drop: float = 0.0
    """The share that is never sent. The list of events still has them, as undelivered."""
    delay: float = 0.0
    """The longest delay in seconds; each delivery is delayed by a random part of it."""
    seed: int = 0
    concurrency: int = 1
    retries: tuple[float, ...] | None = None
    timeout: float = TIMEOUT_SECONDS

    def problem(self) -> str | None:
        """What is invalid, as a sentence; None for a valid policy."""
        if self.mode not in get_args(Mode):
            return f"`mode` must be one of {', '.join(get_args(Mode))}"
        if self.order not in get_args(Order):
            return f"`order` must be one of {', '.join(get_args(Order))}"
        if not all(0 <= share <= 1 for share in (self.duplicate, self.drop)):
            return "`duplicate` and `drop` must be between 0 and 1"
        if min(self.delay, self.gather) < 0 or self.timeout <= 0:
            return "`delay` and `gather` must not be negative, and `timeout` must be positive"
        return "`concurrency` must be at least 1" if self.concurrency < 1 else None


class DeliveryPlan(NamedTuple):
    position: float
    """Of the deliveries that are due, the one with the lowest position is sent first."""
    delay: float
    duplicates: tuple[float, ...]
    """The positions of its duplicates."""
    lost: bool


def plan_delivery(policy: DeliveryPolicy, number: int) -> DeliveryPlan:
    """The plan for an endpoint's delivery `number`, counted from the start of the policy."""
    random = Random(f"{policy.seed}/{number}")  # noqa: S311 - not used for security
    position, second_position, duplicate, lost, delay = (random.random() for _ in range(5))
    fixed = {"created": number, "reversed": -number}
    return DeliveryPlan(
        position=fixed.get(policy.order, position),
        delay=delay * policy.delay,
        duplicates=(fixed.get(policy.order, second_position) + 0.5,)
        if duplicate < policy.duplicate
        else (),
        lost=lost < policy.drop,
    )
