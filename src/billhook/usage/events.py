"""Rows of usage → meter events, as pure functions.

Stripe allows one request at a time for each customer and meter, and its timestamps are whole
seconds. So rows of one customer, meter and second become one event where the meter adds values up:
nothing that Stripe could tell apart is lost, and the busiest customer needs one request a second.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, Literal

import orjson

from billhook.kinds.meters import CUSTOMER_KEY, VALUE_KEY

LARGEST_VALUE = 999_999_999_999_999
"""Stripe takes 15 digits."""
SAFE_SECONDS = 23 * 3600
"""Stripe refuses an identifier that it knows for at least 24 hours. In this time an event may be
sent again without knowing whether Stripe has it."""

Outcome = Literal["sent", "failed", "again", "uncertain"]


@dataclass(frozen=True, slots=True)
class UsageRow:
    """A row that can be sent.

    Attributes:
        customer: of Stripe; None if the subject has none yet.
        formula: how the meter aggregates; None if the mirror does not know the meter.
    """

    id: int
    identifier: str
    meter: str
    customer: str | None
    value: int
    payload: Mapping[str, str] | None
    occurred_at: datetime
    formula: str | None
    customer_key: str | None
    value_key: str | None


@dataclass(frozen=True, slots=True)
class MeterEvent:
    """One request to Stripe, which is the same each time it is sent.

    Attributes:
        rows: the ids of the rows that it counts.
        at: when the usage occurred, in epoch seconds.
        unsure_since: when the first request whose result is unknown began, in epoch seconds; None
            if Stripe certainly does not have the event.
    """

    identifier: str
    meter: str
    customer: str
    value: int
    at: int
    payload: Mapping[str, str]
    rows: tuple[int, ...]
    unsure_since: float | None = None

    @property
    def params(self) -> dict[str, Any]:
        """The parameters of `POST /v1/billing/meter_events`."""
        return {
            "event_name": self.meter,
            "identifier": self.identifier,
            "payload": dict(self.payload),
            "timestamp": self.at,
        }

    def safe(self, now: float) -> bool:
        """Whether Stripe would notice if it had the event already."""
        return self.unsure_since is None or now - self.unsure_since < SAFE_SECONDS


@dataclass(frozen=True, slots=True)
class Result:
    """What became of an event. `reason` says why it was not sent."""

    event: MeterEvent
    outcome: Outcome
    reason: str | None = None


def events_of(rows: Iterable[UsageRow]) -> list[MeterEvent]:
    """The events that count these rows, each of which has a customer."""
    events: dict[object, MeterEvent] = {}
    for row in rows:
        event = _event(row)
        key: object = row.id
        if row.formula == "sum":
            payload = orjson.dumps(dict(row.payload or {}), option=orjson.OPT_SORT_KEYS)
            key = (row.customer, row.meter, event.at, payload)
        if (earlier := events.get(key)) is not None:
            value = earlier.value + row.value
            if abs(value) <= LARGEST_VALUE:
                event = _with_value(earlier, row, value)
            else:  # a new event, to which later rows are added
                events[earlier.identifier] = earlier
        events[key] = event
    return list(events.values())


def _event(row: UsageRow) -> MeterEvent:
    assert row.customer is not None
    payload = dict(row.payload or {})
    payload[row.value_key or VALUE_KEY] = str(row.value)
    payload[row.customer_key or CUSTOMER_KEY] = row.customer
    at = int(row.occurred_at.timestamp() // 1)
    return MeterEvent(
        row.identifier, row.meter, row.customer, row.value, at, payload, rows=(row.id,)
    )


def _with_value(event: MeterEvent, row: UsageRow, value: int) -> MeterEvent:
    payload = {**event.payload, row.value_key or VALUE_KEY: str(value)}
    return replace(event, value=value, payload=payload, rows=(*event.rows, row.id))


def unsure(events: Iterable[MeterEvent], since: float) -> list[MeterEvent]:
    """The events of a batch whose results were never stored: Stripe may have any of them."""
    return [
        replace(event, unsure_since=since) if event.unsure_since is None else event
        for event in events
    ]


def encode(events: Iterable[MeterEvent]) -> list[dict[str, Any]]:
    """Events as they are stored."""
    return [asdict(event) for event in events]


def decode(stored: Iterable[Mapping[str, Any]]) -> list[MeterEvent]:
    """Stored events."""
    return [MeterEvent(**{**each, "rows": tuple(each["rows"])}) for each in stored]


def lanes(events: Iterable[MeterEvent]) -> Iterator[list[MeterEvent]]:
    """Those that must be sent one after the other: of one customer and meter."""
    found: dict[tuple[str, str], list[MeterEvent]] = {}
    for event in events:
        found.setdefault((event.customer, event.meter), []).append(event)
    yield from found.values()
