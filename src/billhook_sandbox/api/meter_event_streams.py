"""Meter events of `/v2`: one with validation, or many without, in a session of its own.

The events of a stream are validated after the response. An invalid event is dropped and logged;
Stripe reports it with an event of `/v2`, which the sandbox does not have.
"""

import logging

from billhook_sandbox.api.meter_events import (
    EVENT_NAME,
    IDENTIFIER,
    DuplicateEvent,
    record,
    strings,
)
from billhook_sandbox.errors import ErrorType, InvalidRequest, StripeError, Unauthorized
from billhook_sandbox.json_params import as_iso, iso_time
from billhook_sandbox.params import Form, array
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json

log = logging.getLogger(__name__)

SESSION_SECONDS = 15 * 60
MAX_EVENTS = 100
KIND = "_meter_event_session"
STREAM = "/v2/billing/meter_event_stream"
"""The only route that takes a session's token instead of an API key."""

EVENT = Form(
    {"event_name": EVENT_NAME, "identifier": IDENTIFIER, "payload": strings, "timestamp": iso_time},
    required=("event_name", "payload"),
)


def create_session(call: Call) -> Json:
    data, now = call.data, call.data.wall.now()
    session = data.put(
        {
            "id": data.ids.new("v2.billing.meter_event_session"),
            "object": KIND,
            "expires_at": now + SESSION_SECONDS,
            "token": "mes_" + data.ids.random(48),
        }
    )
    return {
        "id": session["id"],
        "object": "v2.billing.meter_event_session",
        "authentication_token": session["token"],
        "created": as_iso(now),
        "expires_at": as_iso(session["expires_at"]),
        "livemode": data.livemode,
    }


def data_set_of_token(data_sets: list[DataSet], token: str) -> DataSet:
    """The account that the session's token belongs to. Raises StripeError if it has expired."""
    for data in data_sets:
        for session in data.all(KIND).where("token", token) if token else ():
            if session["expires_at"] <= data.wall.now():
                raise SessionExpired(
                    "The meter event session has expired. Create a new one.",
                    code="billing_meter_event_session_expired",
                )
            return data
    raise Unauthorized("Invalid meter event session token provided.")


class SessionExpired(StripeError):
    status = 401
    type: ErrorType = "temporary_session_expired"


def create_event(call: Call) -> Json:
    try:
        event = record(call.data, call.params)
    except DuplicateEvent as error:
        error.code = "duplicate_meter_event"
        raise
    return {
        **event,
        "object": "v2.billing.meter_event",
        "created": as_iso(event["created"]),
        "timestamp": as_iso(event["timestamp"]),
    }


def create_stream(call: Call) -> Json:
    data, events = call.data, call.params["events"]
    if not 1 <= len(events) <= MAX_EVENTS:
        message = f"You can send between 1 and {MAX_EVENTS} events in a request."
        raise InvalidRequest(message, param="events")
    for event in events:
        try:
            record(data, event)
        except InvalidRequest as error:
            log.warning("Dropped the meter event %s: %s", event.get("identifier"), error.message)
    return {}


OPERATIONS = (
    Operation("POST", "/v2/billing/meter_event_session", Form({}), create_session),
    Operation("POST", STREAM, Form({"events": array(EVENT)}, required=("events",)), create_stream),
    Operation("POST", "/v2/billing/meter_events", EVENT, create_event),
)
