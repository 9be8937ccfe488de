"""All data sets with their clock, jobs and deliveries: the state behind the HTTP surface."""

import asyncio
import contextlib

from billhook_sandbox.clock import Clock
from billhook_sandbox.delivery import WebhookDispatcher
from billhook_sandbox.errors import JobFailed
from billhook_sandbox.fault_injection import FaultInjector
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
        if self.database:
            self.reload(self.database)

    def reload(self, database: Database) -> None:
        settings = database.settings()
        self.clock.offset = settings.get("clock_offset", 0)
        self.fault_injector.revoked = set(settings.get("revoked_keys", ()))
        self.fault_injector.access = settings.get("access", {})
        for saved in database.load():
            data = self.data_set(saved.account, saved.livemode)
            data.all(saved.obj["object"]).put(saved.obj, saved.position)
            self.dispatch(data, saved.obj)

    def data_set(self, account: str, livemode: bool) -> DataSet:
        owner = (account, livemode)
        if owner not in self.data_sets:
            self.data_sets[owner] = DataSet(account, livemode, self.clock, self.ids)
        return self.data_sets[owner]

    def find(self, kind: str, name: str) -> tuple[DataSet, Json] | None:
        """For the hosted pages and the controls, which have no key to tell the account."""
        for data in self.data_sets.values():
            obj = data.get(kind, name)
            if obj:
                return data, obj
        return None

    def commit(self, data: DataSet) -> None:
        """The end of every request and job: save what changed, then let it have its effects."""
        if not data.unsaved:
            return
        if self.database:
            self.database.save(data)
        changes, data.unsaved = data.unsaved, {}
        for (kind, name), obj in changes.items():
            if obj is not None:
                self.dispatch(data, obj)
            elif kind == "webhook_endpoint":
                self.dispatcher.close(name)

    def dispatch(self, data: DataSet, obj: Json) -> None:
        if obj["object"] == "_job":
            if obj.get("clock"):
                return  # Due when its test clock is advanced.
            self.schedule.add(data, obj)
            self.changed.set()
        elif obj["object"] == "_delivery":
            self.dispatcher.add(data, obj)

    def run_due(self) -> None:
        while (due := self.schedule.next_due()) is not None and due <= self.clock.exact():
            self.commit(self.schedule.run_next())

    def advance(self, seconds: float) -> None:
        """Move through time job by job, so that each sees the moment at which it was due.

        Raises JobFailed for a job that failed now or in the background before: no request was there
        to fail. The others were done.
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

    def save_settings(self) -> None:
        if self.database:
            revoked, access = sorted(self.fault_injector.revoked), self.fault_injector.access
            offset = self.clock.offset
            self.database.set({"clock_offset": offset, "revoked_keys": revoked, "access": access})

    def reset(self) -> None:
        """As new: no data, no faults, real time."""
        self.data_sets.clear()
        self.schedule.clear()
        self.dispatcher.clear()
        self.fault_injector.clear()
        self.clock.offset = 0
        if self.database:
            self.database.clear()

    async def run(self) -> None:
        """Do what is due, for as long as the process lives."""
        while True:
            self.changed.clear()
            self.run_due()
            due = self.schedule.next_due()
            pause = None if due is None else max(0.0, due - self.clock.exact())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), pause)
