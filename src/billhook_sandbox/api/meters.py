"""Meters and their event summaries."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change
from billhook_sandbox.objects.meter import KIND, active_meter, make_meter, usage
from billhook_sandbox.pagination import list_object, matching, page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    integer,
    list_form,
    one_of,
    page_limit,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

WINDOWS = {"hour": 3600, "day": 86400}
CREATE = Form(
    {
        **EXPAND,
        "customer_mapping": Form(
            {"event_payload_key": text, "type": one_of("by_id")},
            required=("event_payload_key", "type"),
        ),
        "default_aggregation": Form(
            {"formula": one_of("count", "last", "sum")}, required=("formula",)
        ),
        "display_name": text,
        "event_name": text,
        "event_time_window": one_of(*WINDOWS),
        "value_settings": Form({"event_payload_key": text}, required=("event_payload_key",)),
    },
    required=("default_aggregation", "display_name", "event_name"),
)
UPDATE = Form({**EXPAND, "display_name": text})
LIST = list_form(by_created=False, status=one_of("active", "inactive"))
SUMMARIES = Form(
    {
        **EXPAND,
        "customer": text,
        "end_time": integer,
        "ending_before": text,
        "limit": page_limit,
        "start_time": integer,
        "starting_after": text,
        "value_grouping_window": one_of(*WINDOWS),
    },
    required=("customer", "start_time", "end_time"),
)
PATH = "/v1/billing/meters"


def create(call: Call) -> Json:
    require_free(call, call.params["event_name"])
    return make_meter(call.data, call.params)


def require_free(call: Call, event_name: str) -> None:
    if active_meter(call.data, event_name) is not None:
        raise InvalidRequest(
            f"There is already an active meter with the event name {event_name}.",
            param="event_name",
        )


def retrieve(call: Call) -> Json:
    return call.data.need(KIND, call.id)


def update(call: Call) -> Json:
    meter = call.data.need(KIND, call.id)
    values = {key: call.params[key] for key in ("display_name",) if key in call.params}
    updated = {"updated": call.data.clock.now()} if values else {}
    return change(call.data, meter, "billing.meter.updated", **values, **updated)


def list_(call: Call) -> Json:
    return page(call, KIND, PATH, matching(call, "status"))


def deactivate(call: Call) -> Json:
    return set_status(call, "inactive", "deactivated")


def reactivate(call: Call) -> Json:
    meter = call.data.need(KIND, call.id)
    if meter["status"] == "inactive":
        require_free(call, meter["event_name"])
    return set_status(call, "active", "reactivated")


def set_status(call: Call, status: str, event: str) -> Json:
    meter = call.data.need(KIND, call.id)
    if meter["status"] == status:
        raise InvalidRequest(f"The meter is already {status}.")
    now = call.data.clock.now()
    return change(
        call.data,
        meter,
        f"billing.meter.{event}",
        status=status,
        status_transitions={"deactivated_at": now if status == "inactive" else None},
        updated=now,
    )


def list_summaries(call: Call) -> Json:
    """One summary for the whole time, or one for each hour or day that has usage; the newest
    first."""
    meter = call.data.need(KIND, call.id)
    call.data.need("customer", call.params["customer"], "customer")
    start, end = call.params["start_time"], call.params["end_time"]
    window = call.params.get("value_grouping_window")
    width = WINDOWS[window] if window else 60
    for name, at in (("start_time", start), ("end_time", end)):
        if at % width:
            raise InvalidRequest(
                f"{name} must be aligned with {window or 'minute'} boundaries.", param=name
            )
    if start >= end:
        raise InvalidRequest("end_time must be after start_time.", param="end_time")
    step = width if window else end - start
    summaries = [
        summary
        for at in range(start, end, step)
        if (summary := summarize(call, meter, at, at + step)) is not None
    ]
    return summaries_page(call, summaries[::-1])


def summaries_page(call: Call, summaries: list[Json]) -> Json:
    begin, end = 0, len(summaries)
    ids = [summary["id"] for summary in summaries]
    if after := call.params.get("starting_after"):
        begin = ids.index(after) + 1 if after in ids else end
    if before := call.params.get("ending_before"):
        end = ids.index(before) if before in ids else begin
    limit = call.params.get("limit", 10)
    found = summaries[begin:end]
    return list_object(found[:limit], f"{PATH}/{call.id}/event_summaries", len(found) > limit)


def summarize(call: Call, meter: Json, start: int, end: int) -> Json | None:
    value = usage(call.data, meter, call.params["customer"], start, end)
    if value is None:
        return None
    return {
        "id": f"mtrusg_{meter['id'].removeprefix('mtr_')}{start}{end}",
        "object": "billing.meter_event_summary",
        "aggregated_value": value,
        "end_time": end,
        "livemode": call.data.livemode,
        "meter": meter["id"],
        "start_time": start,
    }


OPERATIONS = (
    Operation("POST", PATH, CREATE, create),
    Operation("GET", PATH, LIST, list_),
    Operation("GET", PATH + "/{id}", RETRIEVE, retrieve),
    Operation("POST", PATH + "/{id}", UPDATE, update),
    Operation("POST", PATH + "/{id}/deactivate", RETRIEVE, deactivate),
    Operation("POST", PATH + "/{id}/reactivate", RETRIEVE, reactivate),
    Operation("GET", PATH + "/{id}/event_summaries", SUMMARIES, list_summaries),
)
