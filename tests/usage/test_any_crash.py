"""Whatever the app records, and wherever the sender dies: the meter's sum is the table's sum."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billhook.stripe.gateway import Gateway
from billhook.usage import batches
from depth import by_depth
from metering import Metering, ago

_examples = itertools.count()


class Killed(BaseException):
    """The process is gone: nothing catches this."""


@contextmanager
def dying(at: int | None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sender dies at its step number `at`, before or after the step has its effect."""
    steps = itertools.count()

    def deadly(work: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def step(*args: Any, **more: Any) -> Any:
            if next(steps) == at:
                raise Killed
            result = await work(*args, **more)
            if next(steps) == at:
                raise Killed
            return result

        return step

    with monkeypatch.context() as patch:
        for name in ("take", "take_again", "settle"):
            patch.setattr(batches, name, deadly(getattr(batches, name)))
        patch.setattr(Gateway, "meter_event", deadly(Gateway.meter_event))
        yield


SUBJECTS = ("a", "b", "c")
records = st.tuples(
    st.just("record"),
    st.lists(
        st.tuples(
            st.sampled_from(SUBJECTS),
            st.integers(-5, 1000),
            st.sampled_from([2, 2, 2, 60, 3600]),  # seconds ago: often the same second
            st.sampled_from([None, None, "one", "two"]),  # identifier
        ),
        min_size=1,
        max_size=8,
    ),
)
sends = st.tuples(st.just("send"), st.one_of(st.none(), st.integers(0, 30)))
faults = st.tuples(
    st.just("fault"),
    st.sampled_from(
        [
            {"status": 500},
            {"status": 500, "after_effect": True, "stored": True},
            {"status": 503, "times": 3},
            {"status": 429, "reason": "endpoint-rate", "times": 2},
            {"status": 409},
            {"cut": True},
            {"cut": True, "after_effect": True},
        ]
    ),
)
maps = st.tuples(st.just("map"), st.sampled_from(SUBJECTS))
steps = st.lists(st.one_of(records, sends, sends, faults, maps), min_size=4, max_size=14)


def play(metering: Metering, monkeypatch: pytest.MonkeyPatch, name: str, step: Any) -> None:
    kind, what = step
    if kind == "record":
        for subject, value, seconds, identifier in what:
            record(metering, f"{subject}{name}", value, seconds, identifier and identifier + name)
    elif kind == "send":
        metering.make_due()
        metering.wake()
        with dying(what, monkeypatch), suppress(Killed):
            metering.send()
    elif kind == "fault":
        metering.fault(**what)
    else:
        metering.customer(f"{what}{name}")


def record(
    metering: Metering, subject: str, value: int, seconds: int, identifier: str | None
) -> None:
    """As apps do that repeat their own work."""
    columns = "environment, meter, subject_type, subject_id, value, occurred_at"
    values = f"'test', 'api_calls', 'team', '{subject}', {value}, '{ago(seconds=seconds)}'"
    if identifier is not None:
        columns, values = f"{columns}, identifier", f"{values}, '{identifier}'"
    metering.books.execute(
        f"""INSERT INTO payments.usage ({columns}) VALUES ({values})
            ON CONFLICT (environment, identifier) DO NOTHING"""
    )


def finish(metering: Metering, name: str) -> None:
    metering.be_up()
    for subject in SUBJECTS:
        metering.customer(f"{subject}{name}")
    for _ in range(10):
        metering.make_due()
        metering.wake()
        metering.send()
        if set(metering.statuses()) <= {"sent"}:
            return
    raise AssertionError(metering.statuses())


@settings(max_examples=by_depth(12, 40, 400))
@given(steps=steps)
def test_the_meter_has_the_sum_of_the_table(
    faulty: Metering, monkeypatch: pytest.MonkeyPatch, steps: list[Any]
) -> None:
    name = f"_{next(_examples)}"
    for step in steps:
        play(faulty, monkeypatch, name, step)
    finish(faulty, name)
    for subject in SUBJECTS:
        recorded = faulty.books.row(
            f"""SELECT coalesce(sum(value), 0)::bigint AS n FROM payments.usage
                WHERE subject_id = '{subject}{name}'"""
        )
        assert faulty.sum_at_stripe(f"{subject}{name}") == recorded["n"]
    assert faulty.books.rows("SELECT * FROM billhook.usage_batches") == []


@pytest.mark.parametrize("at", range(14))
def test_a_sender_that_dies_at_any_step_sends_once(
    faulty: Metering, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    for subject in ("a", "b"):
        faulty.customer(subject)
        for value in (1, 20):
            faulty.record(value, subject=subject)
        faulty.record(300, subject=subject, occurred_at=ago(seconds=90))
    with dying(at, monkeypatch), suppress(Killed):
        faulty.send()
    finish(faulty, "")
    assert [faulty.sum_at_stripe(subject) for subject in ("a", "b")] == [321, 321]
