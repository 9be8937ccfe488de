"""Rows of usage become meter events: each row in one event, and nothing that Stripe could tell
apart is lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from billhook.usage.events import (
    LARGEST_VALUE,
    SAFE_SECONDS,
    MeterEvent,
    UsageRow,
    decode,
    encode,
    events_of,
    lanes,
    unsure,
)

T0 = datetime(2026, 5, 28, 20, 26, 42, tzinfo=UTC)


@st.composite
def rows(draw: st.DrawFn) -> list[UsageRow]:
    number = draw(st.integers(0, 30))
    return [
        UsageRow(
            id=n,
            identifier=f"i{n}",
            meter=draw(st.sampled_from(["calls", "storage"])),
            customer=draw(st.sampled_from(["cus_1", "cus_2"])),
            value=draw(
                st.one_of(st.integers(-9, 9), st.sampled_from([LARGEST_VALUE, -LARGEST_VALUE]))
            ),
            payload=draw(st.sampled_from([None, {"region": "eu"}, {"region": "us"}])),
            occurred_at=T0 + timedelta(milliseconds=draw(st.integers(-1500, 1500))),
            formula=draw(st.sampled_from(["sum", "sum", "count", "last", None])),
            customer_key=draw(st.sampled_from([None, "who"])),
            value_key=None,
        )
        for n in range(number)
    ]


def told(row: UsageRow) -> tuple[object, ...]:
    """What Stripe sees of a row, but for its value."""
    region = (row.payload or {}).get("region")
    return row.customer, row.meter, int(row.occurred_at.timestamp() // 1), region


@given(rows())
def test_each_row_is_in_one_event_with_all_that_stripe_sees_of_it(given: list[UsageRow]) -> None:
    events = events_of(given)
    assert sorted(row for event in events for row in event.rows) == [row.id for row in given]
    by_id = {row.id: row for row in given}
    for event in events:
        mine = [by_id[row] for row in event.rows]
        assert event.identifier == mine[0].identifier
        assert event.value == sum(row.value for row in mine)
        assert abs(event.value) <= LARGEST_VALUE
        assert event.payload["value"] == str(event.value)
        seen = (event.customer, event.meter, event.at, event.payload.get("region"))
        assert {told(row) for row in mine} == {seen}
        assert len(mine) == 1 or {row.formula for row in mine} == {"sum"}
    identifiers = [event.identifier for event in events]
    assert len(set(identifiers)) == len(identifiers)


@given(rows())
def test_stored_events_are_the_same_events(given: list[UsageRow]) -> None:
    events = events_of(given)
    assert decode(encode(events)) == events


@given(rows())
def test_events_of_one_customer_and_meter_are_in_one_lane(given: list[UsageRow]) -> None:
    events = events_of(given)
    found = list(lanes(events))
    assert sorted(e.identifier for lane in found for e in lane) == sorted(
        e.identifier for e in events
    )
    keys = [{(e.customer, e.meter) for e in lane} for lane in found]
    assert all(len(each) == 1 for each in keys)
    assert len({next(iter(each)) for each in keys}) == len(keys)


def test_an_event_may_be_repeated_while_stripe_recognizes_it() -> None:
    event = MeterEvent("i", "calls", "cus_1", 1, 0, {}, (1,))
    assert event.safe(10**12)
    (doubted,) = unsure([event], 100.0)
    assert doubted.safe(100.0 + SAFE_SECONDS - 1)
    assert not doubted.safe(100.0 + SAFE_SECONDS)
    assert unsure([doubted], 500.0) == [doubted]
