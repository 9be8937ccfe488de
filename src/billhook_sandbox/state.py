"""The state behind the HTTP API: all data sets with their clock, jobs and deliveries."""

import asyncio
import contextlib

from billhook_sandbox.clock import Clock
from billhook_sandbox.delivery import WebhookDispatcher
from billhook_sandbox.errors import JobFailed
from billhook_sandbox.fault_injection import FaultInjector
from billhook_sandbox.flows.entitlements import follow_subscriptions
from billhook_sandbox.flows.scheduled_actions import ACTIONS
from billhook_sandbox.ids import Ids
from billhook_sandbox.options import Options
from billhook_sandbox.persistence import Database
from billhook_sandbox.schedule import Schedule
from billhook_sandbox.store import DataSet, Json


class SandboxState:
    def __init__(self, options: Options, clock: Clock, ids: Ids) -> None:
        self.options = options
        self.clock = clock
        self.ids = ids
        self.fault_injector = FaultInjector()
        self.data_sets: dict[tuple[str, bool], DataSet] = {}
        self.schedule = Schedule(ACTIONS)
        self.dispatcher = WebhookDispatcher(self.clock, self.fault_injector, self.commit)
        self.database = Database(options.data) if options.data else None
        self.changed = asyncio.Event()
        settings = self.database.settings() if self.database else {}
        self.clock.offset = settings.get("clock_offset", self.clock.offset - options.begin_ago)
        if self.database:
            self.load(self.database, settings)
            self.save_settings()

    def load(self, database: Database, settings: Json) -> None:
        self.fault_injector.revoked = set(settings.get("revoked_keys", ()))
        self.fault_injector.access = settings.get("access", {})
        for saved in database.load():
            data = self.data_set(saved.account, saved.livemode)
            data.all(saved.obj["object"]).put(saved.obj, saved.position)
            self.enqueue(data, saved.obj)

    def data_set(self, account: str, livemode: bool) -> DataSet:
        owner = (account, livemode)
        if owner not in self.data_sets:
            self.data_sets[owner] = DataSet(account, livemode, self.clock, self.ids)
        return self.data_sets[owner]

    def find(self, kind: str, object_id: str) -> tuple[DataSet, Json] | None:
        """Searches all accounts: the hosted pages and the controls have no API key."""
        for data in self.data_sets.values():
            obj = data.get(kind, object_id)
            if obj:
                return data, obj
        return None

    def commit(self, data: DataSet) -> None:
        """Ends every request and job: saves the changes, then enqueues new jobs and deliveries."""
        if not data.unsaved:
            return
        follow_subscriptions(data)
        if self.database:
            self.database.save(data)
        for (kind, object_id), obj in data.saved().items():
            if obj is not None:
                self.enqueue(data, obj)
            elif kind == "webhook_endpoint":
                self.dispatcher.remove_endpoint(object_id)

    def enqueue(self, data: DataSet, obj: Json) -> None:
        if obj["object"] == "_job":
            if obj.get("clock"):
                return  # It runs when its test clock is advanced.
            self.schedule.add(data, obj)
            self.changed.set()
        elif obj["object"] == "_delivery":
            self.dispatcher.add(data, obj)

    def run_due(self) -> None:
        while (due := self.schedule.next_due()) is not None and due <= self.clock.exact():
            self.commit(self.schedule.run_next())

    def advance(self, seconds: float) -> None:
        """Moves time forward and runs every due job at its own time.

        Raises JobFailed if a job failed, now or earlier in the background, where no request could
        report it. The other jobs have run.
        """
        target = self.clock.exact() + seconds
        while (due := self.schedule.next_due()) is not None and due <= target:
            self.clock.move_to(due)
            self.save_settings()
            self.commit(self.schedule.run_next())
        self.clock.move_to(target)
        self.save_settings()
        self.dispatcher.wake()
        if self.schedule.failures:
            raise JobFailed(self.schedule.failures.pop(0))

    def catch_up(self) -> None:
        """Moves a clock that is in the past to the present. Raises as `advance` does."""
        if self.clock.offset < 0:
            self.advance(-self.clock.offset)
            self.clock.offset = max(self.clock.offset, 0)  # without the time that this took
            self.save_settings()
            self.changed.set()

    def save_settings(self) -> None:
        if self.database:
            self.database.save_settings(
                {
                    "clock_offset": self.clock.offset,
                    "revoked_keys": sorted(self.fault_injector.revoked),
                    "access": self.fault_injector.access,
                }
            )

    def reset(self) -> None:
        """Back to the initial state: no data, no faults, real time."""
        self.data_sets.clear()
        self.schedule.clear()
        self.dispatcher.clear()
        self.fault_injector.clear()
        self.clock.offset = 0
        if self.database:
            self.database.clear()

    async def run(self) -> None:
        """Runs due jobs for as long as the process lives."""
        while True:
            self.changed.clear()
            self.run_due()
            due = self.schedule.next_due()
            delay = None if due is None else max(0.0, due - self.clock.exact())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), delay)
