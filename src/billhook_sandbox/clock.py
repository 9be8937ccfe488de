"""The sandbox's own time: real time plus what was skipped through `/_sandbox/advance`."""

import time
from collections.abc import Callable


class Clock:
    def __init__(self, wall: Callable[[], float] = time.time, offset: float = 0) -> None:
        self.wall = wall
        self.offset = offset

    def exact(self) -> float:
        return self.wall() + self.offset

    def now(self) -> int:
        """Unix seconds: Stripe's times have one-second grain."""
        return int(self.exact())

    def move_to(self, moment: float) -> None:
        """Skip forward; time never runs backwards, because lists are ordered by birth."""
        self.offset = max(self.offset, moment - self.wall())
