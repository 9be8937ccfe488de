"""The rate limit for requests to Stripe: a sync uses the capacity that live traffic leaves free.

Stripe limits requests per account, and further per list (stripe-facts 41). Requests of live
traffic (a checkout, a change of the catalog) never wait here; they count toward the total, so a
concurrent sync slows down instead. One governor serves one process.

The rates are settings: `stripe_list_rate`, `stripe_test_rate`, `stripe_live_rate`. The gateway
retries after a 429.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from billhook.settings import Environment


@dataclass(slots=True)
class _Clock:
    """A clock that can be paused after a 429: all scheduled requests are delayed, in the same order
    and with the same gaps."""

    now: Callable[[], float]
    reading: float = 0.0
    """The time that it shows until `goes_at`."""
    goes_at: float = float("-inf")

    def __post_init__(self) -> None:
        self.reading = self.goes_at = self.now()

    def __call__(self) -> float:
        return self.reading + max(0.0, self.now() - self.goes_at)

    def pause(self, seconds: float) -> None:
        self.reading, self.goes_at = self(), max(self.goes_at, self.now() + seconds)

    def until(self, reading: float) -> float:
        """Seconds until it shows `reading`."""
        return reading - self.reading - (self.now() - self.goes_at)


_LONGEST_DEBT = 1.0
"""Seconds that live traffic may delay other requests at most."""


@dataclass(slots=True)
class _Lane:
    """Evenly spaced slots, `gap` seconds apart; unlimited if 0."""

    gap: float
    free_at: float = 0.0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held by the request that is waiting for its slot. Others don't reserve slots ahead, so live
    traffic in between counts first."""

    def take(self, not_before: float) -> float:
        at = max(not_before, self.free_at)
        self.free_at = at + self.gap
        return at


@dataclass(slots=True)
class _Account:
    clock: _Clock
    total: _Lane
    lists: dict[str, _Lane] = field(default_factory=dict)


class Governor:
    """Slots for requests that can wait.

    Args:
        per_list: requests per second to one list; 0 for no limit.
        total: requests per second in total, including live traffic; 0 or absent for no limit.
        usage: meter events per second in live mode, which Stripe counts apart; 0 for no limit.
    """

    def __init__(
        self,
        per_list: float,
        total: Mapping[Environment, float],
        *,
        usage: float = 0,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._list_gap = 1 / per_list if per_list else 0.0
        self._total_gap = {each: 1 / rate for each, rate in total.items() if rate}
        self._clock = clock
        self._sleep = sleep
        self._accounts: dict[Environment, _Account] = {}
        self._usage = _Account(_Clock(clock), _Lane(1 / usage if usage else 0.0))

    async def turn(self, environment: Environment, list_name: str) -> None:
        """Wait until a request to `list_name` is due."""
        account = self._account(environment)
        lane = account.lists.setdefault(list_name, _Lane(self._list_gap))
        await self._slot(account, lane)
        await self._slot(account, account.total)

    async def meter_event(self, environment: Environment) -> None:
        """Wait until a meter event is due."""
        account = self._for_usage(environment)
        await self._slot(account, account.total)

    def pause_usage(self, environment: Environment, seconds: float) -> None:
        """After a 429 for a meter event: as `pause`."""
        self._for_usage(environment).clock.pause(seconds)

    def live(self, environment: Environment) -> None:
        """Count a request of live traffic."""
        account = self._account(environment)
        now, before = account.clock(), account.total.free_at
        account.total.take(now)
        account.total.free_at = max(before, min(account.total.free_at, now + _LONGEST_DEBT))

    def pause(self, environment: Environment, seconds: float) -> None:
        """After a 429: pause requests that can wait, then continue at the same rate."""
        self._account(environment).clock.pause(seconds)

    async def _slot(self, account: _Account, lane: _Lane) -> None:
        arrived = account.clock()  # not when its turn comes: a late wake-up must not add up
        async with lane.turn:
            at = lane.take(arrived)
            while (wait := account.clock.until(at)) > 0:
                await self._sleep(wait)

    def _for_usage(self, environment: Environment) -> _Account:
        """In test mode, Stripe counts meter events toward the total."""
        return self._usage if environment == "live" else self._account(environment)

    def _account(self, environment: Environment) -> _Account:
        gap = self._total_gap.get(environment, 0.0)
        return self._accounts.setdefault(environment, _Account(_Clock(self._clock), _Lane(gap)))
