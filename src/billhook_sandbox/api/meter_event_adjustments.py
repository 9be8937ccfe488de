"""Meter event adjustments: cancel an event that was reported by mistake.

At Stripe, the cancellation is processed later; here, immediately.
"""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.json_params import as_iso
from billhook_sandbox.objects.meter import EVENTS, KIND
from billhook_sandbox.params import EXPAND, Form, ParamType, one_of, text
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json

CANCELABLE_SECONDS = 24 * 3600
FIELDS: dict[str, ParamType] = {
    "cancel": Form({"identifier": text}, required=("identifier",)),
    "event_name": text,
    "type": one_of("cancel"),
}
REQUIRED = ("cancel", "event_name", "type")
CREATE = Form({**EXPAND, **FIELDS}, required=REQUIRED)
CREATE_V2 = Form(FIELDS, required=REQUIRED)


def create(call: Call) -> Json:
    given = call.params
    cancel(call.data, given["event_name"], given["cancel"]["identifier"])
    return {
        "object": "billing.meter_event_adjustment",
        "cancel": given["cancel"],
        "event_name": given["event_name"],
        "livemode": call.data.livemode,
        "status": "pending",
        "type": "cancel",
    }


def create_v2(call: Call) -> Json:
    made = create(call)
    return {
        **made,
        "id": call.data.ids.new("v2.billing.meter_event_adjustment"),
        "object": "v2.billing.meter_event_adjustment",
        "created": as_iso(call.data.wall.now()),
    }


def cancel(data: DataSet, event_name: str, identifier: str) -> None:
    meters = {meter["id"] for meter in data.all(KIND).where("event_name", event_name)}
    if not meters:
        message = f'No meter found for event name "{event_name}".'
        raise InvalidRequest(message, param="event_name")
    events = [
        event
        for event in data.all(EVENTS).where("identifier", identifier)
        if event["meter_and_customer"].partition(":")[0] in meters and not event["canceled"]
    ]
    param = "cancel[identifier]"
    if not events:
        message = f"No meter event found with identifier {identifier}."
        raise InvalidRequest(message, code="resource_missing", param=param)
    event = events[-1]
    if event["created"] + CANCELABLE_SECONDS < data.wall.now():
        message = "Meter events can only be canceled within 24 hours after Stripe received them."
        raise InvalidRequest(message, param=param)
    # Its identifier stays known, so it cannot be used again on the same day.
    data.put({**event, "canceled": True})


OPERATIONS = (
    Operation("POST", "/v1/billing/meter_event_adjustments", CREATE, create),
    Operation("POST", "/v2/billing/meter_event_adjustments", CREATE_V2, create_v2),
)
