"""Jobs: actions that run by themselves at a later time. They are stored in the data set."""

import heapq
import logging
from collections.abc import Callable, Mapping

from billhook_sandbox.store import DataSet, Json

log = logging.getLogger(__name__)

Action = Callable[..., None]


def schedule_in(data: DataSet, seconds: float, action: str, **args: str) -> Json:
    """Runs the action in real time, even on a test clock: test clocks only move billing."""
    return put_job(data, data.wall.exact() + seconds, None, action, args)


def schedule_at(data: DataSet, moment: float, action: str, **args: str) -> Json:
    """Runs the action when the current clock reaches that time: the sandbox's or a test clock."""
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
    """The jobs of all data sets, ordered by due time."""

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
        _, _, data, job_id = heapq.heappop(self.queue)
        job = data.need("_job", job_id)
        data.remove("_job", job_id)
        try:
            with data.all_or_nothing():
                self.actions[job["action"]](data, **job["args"])
        except Exception as error:
            # A bug in one job must be visible, and must not stop the others.
            log.exception("Job %s failed: %s", job["action"], job["args"])
            self.failures.append(f"Job {job['action']} {job['args']} failed: {error}")
        return data

    def clear(self) -> None:
        self.queue.clear()
        self.failures.clear()
