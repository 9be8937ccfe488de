"""What becomes of each delivery under a seeded policy: its place, a delay, a copy, a loss.

The same seed and the same sequence of events give the same fates, whatever the machine is doing.
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
    """How deliveries are made; `/_sandbox/delivery` changes it."""

    mode: Mode = "on"
    """`off` holds deliveries back until `on`; `drop` loses all of them."""
    order: Order = "created"
    """Other orders than of creation gather what happens together: Stripe promises none
    (stripe-facts 12)."""
    gather: float = GATHER_SECONDS
    """How long no further event may come until what was gathered goes out."""
    duplicate: float = 0.0
    """The share of deliveries that come twice, the second time at another place."""
    drop: float = 0.0
    """The share that is lost; the list of events still has them, undelivered."""
    delay: float = 0.0
    """The longest delay in seconds; each delivery gets a part of it."""
    seed: int = 0
    concurrency: int = 1
    retries: tuple[float, ...] | None = None
    timeout: float = TIMEOUT_SECONDS

    def problem(self) -> str | None:
        """What is wrong with it, in a sentence."""
        if self.mode not in get_args(Mode):
            return f"`mode` is one of {', '.join(get_args(Mode))}"
        if self.order not in get_args(Order):
            return f"`order` is one of {', '.join(get_args(Order))}"
        if not all(0 <= share <= 1 for share in (self.duplicate, self.drop)):
            return "`duplicate` and `drop` are shares between 0 and 1"
        if min(self.delay, self.gather) < 0 or self.timeout <= 0:
            return "`delay`, `gather` and `timeout` are seconds"
        return "`concurrency` is at least 1" if self.concurrency < 1 else None


class DeliveryPlan(NamedTuple):
    place: float
    """Deliveries that are due go out by it, the smallest first."""
    delay: float
    copies: tuple[float, ...]
    """The places of its duplicates."""
    lost: bool


def plan_delivery(manner: DeliveryPolicy, number: int) -> DeliveryPlan:
    """Of the lane's delivery with that number, counted from the policy's beginning."""
    dice = Random(f"{manner.seed}/{number}")  # noqa: S311 - it decides nothing secret
    place, again, twice, lost, delay = (dice.random() for _ in range(5))
    in_order = {"created": number, "reversed": -number}
    return DeliveryPlan(
        place=in_order.get(manner.order, place),
        delay=delay * manner.delay,
        copies=(in_order.get(manner.order, again) + 0.5,) if twice < manner.duplicate else (),
        lost=lost < manner.drop,
    )
