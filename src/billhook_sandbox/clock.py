"""The sandbox's time: real time plus what `/_sandbox/advance` skipped."""

import time
from collections.abc import Callable


class Clock:
    def __init__(self, wall: Callable[[], float] = time.time, offset: float = 0) -> None:
        self.wall = wall
        self.offset = offset

    def exact(self) -> float:
        return self.wall() + self.offset

    def now(self) -> int:
        """Unix time in whole seconds, as in all of Stripe's timestamps."""
        return int(self.exact())

    def move_to(self, moment: float) -> None:
        """Moves time forward, never back: lists are ordered by creation time."""
        self.offset = max(self.offset, moment - self.wall())
