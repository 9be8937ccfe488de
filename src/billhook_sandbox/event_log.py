"""Events: one for each change, rendered once and never modified (stripe-facts 32)."""

from typing import Any

from billhook_sandbox.api_versions import default_version, render_event
from billhook_sandbox.object_validation import validate_object
from billhook_sandbox.options import API_VERSION
from billhook_sandbox.store import DataSet, Json


def previous_attributes(before: Json, after: Json) -> Json:
    """The old values of changed fields; nested objects are compared by key (stripe-facts 24)."""
    changed: Json = {}
    for key in before.keys() | after.keys():
        old, new = before.get(key), after.get(key)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            changed[key] = previous_attributes(old, new)
        else:
            changed[key] = old
    return changed


def emit(data: DataSet, type_: str, obj: Json, previous: Json | None = None) -> None:
    if data.is_trial:
        return
    validate_object(obj)
    endpoints = [
        endpoint
        for endpoint in data.all("webhook_endpoint").rows.values()
        if endpoint["status"] == "enabled" and is_subscribed(endpoint, type_)
    ]
    newest = {
        "id": data.ids.new("event"),
        "object": "event",
        "api_version": API_VERSION,
        "created": data.wall.now(),
        "data": {"object": obj} | ({} if previous is None else {"previous_attributes": previous}),
        "livemode": data.livemode,
        "pending_webhooks": len(endpoints),
        "request": {"id": data.cause.request, "idempotency_key": data.cause.idempotency_key},
        "type": type_,
    }
    event = data.put(render_event(data, newest, default_version(data)))
    if event is not newest:
        # Kept for endpoints whose API version is newer than the account's.
        data.put({"id": event["id"], "object": "_newest_event", "event": newest})
    for endpoint in endpoints:
        data.put(
            {
                "id": f"{event['id']}:{endpoint['id']}",
                "object": "_delivery",
                "event": event["id"],
                "endpoint": endpoint["id"],
                "attempt": 0,
                "due": data.wall.exact(),
            }
        )


def is_subscribed(endpoint: Json, type_: str) -> bool:
    return type_ in endpoint["enabled_events"] or "*" in endpoint["enabled_events"]


def change(data: DataSet, obj: Json, type_: str | None = None, /, **values: Any) -> Json:
    """Stores the object with new values. Emits an event of that type if any value differs."""
    after = data.put({**obj, **values})
    if type_ is not None and (previous := previous_attributes(obj, after)):
        emit(data, type_, after, previous)
    return after
