"""All data sets with their clock, jobs and deliveries: the state behind the HTTP surface."""

import asyncio
import contextlib

from billhook_sandbox.clock import Clock
from billhook_sandbox.delivery import Courier
from billhook_sandbox.errors import JobFailed
from billhook_sandbox.flows.later import ACTIONS
from billhook_sandbox.ids import Ids
from billhook_sandbox.options import Options
from billhook_sandbox.persistence import Journal
from billhook_sandbox.schedule import Schedule
from billhook_sandbox.store import DataSet, Json
from billhook_sandbox.trouble import Trouble


class World:
    def __init__(self, options: Options, clock: Clock, ids: Ids) -> None:
        self.options = options
        self.clock = clock
        self.ids = ids
        self.trouble = Trouble()
        self.data_sets: dict[tuple[str, bool], DataSet] = {}
        self.schedule = Schedule(ACTIONS)
        self.courier = Courier(self.clock, self.trouble, self.commit)
        self.journal = Journal(options.data) if options.data else None
        self.changed = asyncio.Event()
        if self.journal:
            self.reload(self.journal)

    def reload(self, journal: Journal) -> None:
        settings = journal.settings()
        self.clock.offset = settings.get("clock_offset", 0)
        self.trouble.revoked = set(settings.get("revoked_keys", ()))
        self.trouble.access = settings.get("access", {})
        for saved in journal.load():
            data = self.data_set(saved.account, saved.livemode)
            data.all(saved.obj["object"]).put(saved.obj, saved.position)
            self.hand_over(data, saved.obj)

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
        if self.journal:
            self.journal.save(data)
        changes, data.unsaved = data.unsaved, {}
        for (kind, name), obj in changes.items():
            if obj is not None:
                self.hand_over(data, obj)
            elif kind == "webhook_endpoint":
                self.courier.close(name)

    def hand_over(self, data: DataSet, obj: Json) -> None:
        if obj["object"] == "_job":
            if obj.get("clock"):
                return  # Due when its test clock is advanced.
            self.schedule.add(data, obj)
            self.changed.set()
        elif obj["object"] == "_delivery":
            self.courier.add(data, obj)

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
            self.keep_settings()
            self.commit(self.schedule.run_next())
        self.clock.move_to(target)
        self.keep_settings()
        self.courier.wake()
        if self.schedule.failures:
            raise JobFailed(self.schedule.failures.pop(0))

    def keep_settings(self) -> None:
        if self.journal:
            revoked, access = sorted(self.trouble.revoked), self.trouble.access
            offset = self.clock.offset
            self.journal.set({"clock_offset": offset, "revoked_keys": revoked, "access": access})

    def reset(self) -> None:
        """As new: no data, no faults, real time."""
        self.data_sets.clear()
        self.schedule.clear()
        self.courier.clear()
        self.trouble.clear()
        self.clock.offset = 0
        if self.journal:
            self.journal.clear()

    async def run(self) -> None:
        """Do what is due, for as long as the process lives."""
        while True:
            self.changed.clear()
            self.run_due()
            due = self.schedule.next_due()
            pause = None if due is None else max(0.0, due - self.clock.exact())
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), pause)
