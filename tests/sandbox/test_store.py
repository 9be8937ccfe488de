"""The store, jobs and billing periods, tested in-process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from billhook_sandbox.clock import Clock
from billhook_sandbox.errors import JobFailed, SchemaMismatch
from billhook_sandbox.event_log import previous_attributes
from billhook_sandbox.ids import Ids
from billhook_sandbox.options import Options
from billhook_sandbox.periods import period_end
from billhook_sandbox.schedule import Schedule, schedule_in
from billhook_sandbox.state import SandboxState
from billhook_sandbox.store import Collection, DataSet


def moment(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_the_order_of_creation_survives_deletions_and_restarts(tmp_path: Path) -> None:
    names: list[str] = []
    for run in range(3):
        world = SandboxState(Options(data=tmp_path / "sandbox.sqlite"), Clock(), Ids())
        data = world.data_set("shop", False)
        assert [obj["id"] for obj in data.all("thing").rows.values()] == names
        for i in range(3):
            name = f"{9 - run}{i}"
            data.put({"id": name, "object": "thing"})
            names.append(name)
        world.commit(data)
        data.remove("thing", names.pop(0))
        world.commit(data)


def test_an_index_follows_changed_values_and_keeps_the_order_of_creation() -> None:
    things = Collection()
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        things.put({"id": name, "colour": colour})
    assert [obj["id"] for obj in things.where("colour", "red")] == ["a", "c"]
    things.put({"id": "b", "colour": "red"})
    things.put({"id": "a", "colour": "blue"})
    things.put({"id": "a", "colour": "red"})
    assert [obj["id"] for obj in things.where("colour", "red")] == ["a", "b", "c"]
    assert things.where("colour", "blue") == []


def test_a_failed_job_fails_the_next_advance_and_no_other_job() -> None:
    world = SandboxState(Options(), Clock(), Ids())
    done: list[str] = []

    def wrong(data: DataSet, name: str) -> None:
        raise SchemaMismatch(f"{name} is wrong")

    world.schedule = Schedule({"wrong": wrong, "right": lambda data, name: done.append(name)})
    data = world.data_set("shop", False)
    schedule_in(data, 1, "wrong", name="ch_1")
    schedule_in(data, 2, "right", name="ch_2")
    world.commit(data)
    with pytest.raises(JobFailed, match="ch_1 is wrong"):
        world.advance(5)
    assert done == ["ch_2"]
    world.advance(5)


@pytest.mark.parametrize(
    ("start", "interval", "count", "anchor", "end"),
    [
        ("2026-01-31", "month", 1, "2026-01-31", "2026-02-28"),
        ("2026-02-28", "month", 1, "2026-01-31", "2026-03-31"),
        ("2026-11-15", "month", 3, "2026-11-15", "2027-02-15"),
        ("2028-02-29", "year", 1, "2028-02-29", "2029-02-28"),
        ("2031-02-28", "year", 1, "2028-02-29", "2032-02-29"),
        ("2026-12-31", "day", 1, "2026-12-31", "2027-01-01"),
        ("2026-12-30", "week", 2, "2026-12-30", "2027-01-13"),
    ],
)
def test_a_period_ends_on_the_anchors_day(
    start: str, interval: str, count: int, anchor: str, end: str
) -> None:
    recurring = {"interval": interval, "interval_count": count}
    assert period_end(moment(start), recurring, moment(anchor)) == moment(end)


def test_only_changed_fields_are_previous_attributes() -> None:
    before = {"a": 1, "same": 2, "metadata": {"x": "1", "y": "2"}, "items": [1]}
    after = {"a": 3, "same": 2, "metadata": {"x": "1", "z": "3"}, "items": [1, 2]}
    found = previous_attributes(before, after)
    assert found == {"a": 1, "metadata": {"y": "2", "z": None}, "items": [1]}
