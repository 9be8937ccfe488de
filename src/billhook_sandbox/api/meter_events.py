"""Meter events: the usage that customers are billed for.

As at Stripe's synchronous endpoint, an event is validated before the response. Stripe aggregates
asynchronously; here, summaries show an event immediately.
"""

import re
from typing import Any

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.objects.meter import EVENTS, active_meter, put_event
from billhook_sandbox.params import EXPAND, Form, at_most, integer
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json

UNIQUE_SECONDS = 24 * 3600
OLDEST_SECONDS = 35 * 86400
NEWEST_SECONDS = 5 * 60
MAX_DIGITS = 15
IDENTIFIER = at_most(100)
EVENT_NAME = at_most(100)


def strings(raw: Any, param: str) -> Json:
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise InvalidRequest("Invalid hash", param=param)
    return raw


CREATE = Form(
    {
        **EXPAND,
        "event_name": EVENT_NAME,
        "identifier": IDENTIFIER,
        "payload": strings,
        "timestamp": integer,
    },
    required=("event_name", "payload"),
)


def create(call: Call) -> Json:
    return record(call.data, call.params)


def record(data: DataSet, given: Json) -> Json:
    """Validates and stores an event. Raises InvalidRequest; then nothing is stored."""
    name, payload = given["event_name"], given["payload"]
    meter = active_meter(data, name)
    if meter is None:
        message = f'No active meter found for event name "{name}".'
        raise InvalidRequest(message, param="event_name")
    identifier = given.get("identifier") or data.ids.random(32)
    require_unused(data, identifier)
    timestamp = given.get("timestamp", data.wall.now())
    customer = customer_of(data, meter, payload)
    require_recent(now_of(data, customer), timestamp)
    value = 1
    if meter["default_aggregation"]["formula"] != "count":
        value = value_of(meter, payload)
    put_event(data, meter, customer["id"], value, identifier, timestamp)
    return {
        "object": "billing.meter_event",
        "created": data.wall.now(),
        "event_name": name,
        "identifier": identifier,
        "livemode": data.livemode,
        "payload": payload,
        "timestamp": timestamp,
    }


class DuplicateEvent(InvalidRequest):
    """The error of `/v1` has no code (stripe-facts 46)."""


def require_unused(data: DataSet, identifier: str) -> None:
    for event in data.all(EVENTS).where("identifier", identifier):
        if event["created"] + UNIQUE_SECONDS > data.wall.now():
            raise DuplicateEvent(f"An event already exists with identifier {identifier}.")


def now_of(data: DataSet, customer: Json) -> int:
    """A customer on a test clock has that clock's time."""
    clock = data.get("test_helpers.test_clock", customer["test_clock"])
    return int(clock["frozen_time"]) if clock else data.wall.now()


def require_recent(now: int, timestamp: int) -> None:
    if timestamp < now - OLDEST_SECONDS:
        message = "The timestamp must be within the past 35 calendar days."
        raise InvalidRequest(message, param="timestamp")
    if timestamp > now + NEWEST_SECONDS:
        message = "The timestamp must not be more than 5 minutes in the future."
        raise InvalidRequest(message, param="timestamp")


def customer_of(data: DataSet, meter: Json, payload: Json) -> Json:
    key = meter["customer_mapping"]["event_payload_key"]
    if key not in payload:
        message = f"The event payload must contain the customer in `{key}`."
        raise InvalidRequest(message, param=f"payload[{key}]")
    customer = data.get("customer", payload[key])
    if customer is None or customer.get("deleted"):
        raise InvalidRequest(
            f"No such customer: '{payload[key]}'", code="resource_missing", param=f"payload[{key}]"
        )
    return customer


def value_of(meter: Json, payload: Json) -> int:
    key = meter["value_settings"]["event_payload_key"]
    value = payload.get(key, "")
    if not re.fullmatch(r"-?\d+", value):
        raise InvalidRequest(
            f"The event payload must contain a whole number in `{key}`. Received {value!r}.",
            param=f"payload[{key}]",
        )
    if len(value.lstrip("-").lstrip("0")) > MAX_DIGITS:
        raise InvalidRequest(
            f"The value in the event payload can have at most {MAX_DIGITS} digits. "
            f"Received {value}.",
            param=f"payload[{key}]",
        )
    return int(value)


OPERATIONS = (Operation("POST", "/v1/billing/meter_events", CREATE, create),)
