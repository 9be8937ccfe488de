"""What happens by itself after a while: kept as jobs in the data set, run when they are due."""

import heapq
import logging
from collections.abc import Callable, Mapping

from billhook_sandbox.store import DataSet, Json

log = logging.getLogger(__name__)

Action = Callable[..., None]


def schedule_in(data: DataSet, seconds: float, action: str, **args: str) -> Json:
    """In real time, also for a customer on a test clock: what follows a payment is not billing."""
    return put_job(data, data.wall.exact() + seconds, None, action, args)


def schedule_at(data: DataSet, moment: float, action: str, **args: str) -> Json:
    """When the clock that counts now shows that moment: the sandbox's, or a test clock."""
    return put_job(data, moment, data.test_clock, action, args)


def put_job(
    data: DataSet, moment: float, clock: str | None, action: str, args: dict[str, str]
) -> Json:
    return data.put(
        {
            "id": data.ids.random(16),
            "object": "_job",
            "due": moment,
            "action": action,
            "args": args,
            "clock": clock,
        }
    )


class Schedule:
    """Due jobs in order of time, over all data sets."""

    def __init__(self, actions: Mapping[str, Action]) -> None:
        self.actions = actions
        self.queue: list[tuple[float, int, DataSet, str]] = []
        self.count = 0
        self.failures: list[str] = []

    def add(self, data: DataSet, job: Json) -> None:
        self.count += 1
        heapq.heappush(self.queue, (job["due"], self.count, data, job["id"]))

    def next_due(self) -> float | None:
        return self.queue[0][0] if self.queue else None

    def run_next(self) -> DataSet:
        _, _, data, name = heapq.heappop(self.queue)
        job = data.need("_job", name)
        data.remove("_job", name)
        try:
            self.actions[job["action"]](data, **job["args"])
        except Exception as error:
            # A bug in one job must be seen, and must not stop all others.
            log.exception("job %s failed: %s", job["action"], job["args"])
            self.failures.append(f"{job['action']} of {job['args']} failed: {error}")
        return data

    def clear(self) -> None:
        self.queue.clear()
        self.failures.clear()
