"""Meters, and the meter events that they aggregate."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.store import DataSet, Json

KIND = "billing.meter"
EVENTS = "_meter_event"
"""Meter events have no list at Stripe, so they are internal records here."""


def make_meter(data: DataSet, given: Json) -> Json:
    now = data.clock.now()
    mapping = {"event_payload_key": "stripe_customer_id", "type": "by_id"}
    meter = data.put(
        {
            "id": data.ids.new(KIND),
            "object": KIND,
            "created": now,
            "customer_mapping": given.get("customer_mapping", mapping),
            "default_aggregation": given["default_aggregation"],
            "display_name": given["display_name"],
            "event_name": given["event_name"],
            "event_time_window": given.get("event_time_window"),
            "livemode": data.livemode,
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "updated": now,
            "value_settings": given.get("value_settings", {"event_payload_key": "value"}),
        }
    )
    emit(data, "billing.meter.created", meter)
    return meter


def active_meter(data: DataSet, event_name: str) -> Json | None:
    """An event name belongs to one active meter at most."""
    meters = data.all(KIND).where("event_name", event_name)
    return next((meter for meter in meters if meter["status"] == "active"), None)


def put_event(
    data: DataSet, meter: Json, customer: str, value: int, identifier: str, timestamp: int
) -> None:
    data.put(
        {
            "id": data.ids.random(24),
            "object": EVENTS,
            "canceled": False,
            "created": data.wall.now(),
            "identifier": identifier,
            "meter_and_customer": f"{meter['id']}:{customer}",
            "timestamp": timestamp,
            "value": value,
        }
    )


def usage(
    data: DataSet, meter: Json, customer: str, start: int, end: int, after: int = 0
) -> int | None:
    """The aggregated value of the events from `start` until before `end`; None without events. Of
    the second `start`, only those that were reported after the one at that position."""
    events = data.all(EVENTS)
    found = [
        event
        for event in events.where("meter_and_customer", f"{meter['id']}:{customer}")
        if not event["canceled"]
        and start <= event["timestamp"] < end
        and (event["timestamp"] > start or events.position[event["id"]] > after)
    ]
    if not found:
        return None
    formula = meter["default_aggregation"]["formula"]
    if formula == "count":
        return len(found)
    if formula == "last":
        # Of several in the same second, the one that was received last.
        return int(max(reversed(found), key=lambda event: int(event["timestamp"]))["value"])
    return int(sum(event["value"] for event in found))
