"""Webhook endpoints. The secret is only returned on creation (stripe-facts 36)."""

import re

from billhook_sandbox.api_versions import check_version
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    boolean,
    changed_values,
    clearable,
    list_form,
    merge_metadata,
    metadata,
    text,
    url,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json, deleted_object

MAX_ENDPOINTS = 16


def event_type(raw: object, param: str) -> str:
    name = text(raw, param)
    if not re.fullmatch(r"\*|[a-z_0-9]+(\.[a-z_0-9]+)+", name):
        raise InvalidRequest(f"Invalid {param}: must be the type of an event", param=param)
    return name


def event_types(raw: object, param: str) -> list[str]:
    names: list[str] = array(event_type)(raw, param)
    if not names:
        message = "Invalid array: enabled_events must contain at least one event type."
        raise InvalidRequest(message, code="parameter_invalid_empty", param=param)
    return names


def api_version(raw: object, param: str) -> str:
    """A version that Stripe has and the sandbox supports."""
    return check_version(text(raw, param), param)


def web_url(raw: object, param: str) -> str:
    """Unlike Stripe, the sandbox accepts addresses of the local machine."""
    value = url(raw, param)
    if not re.match(r"https?://", value):
        message = "Invalid URL: URLs must begin with http:// or https://."
        raise InvalidRequest(message, code="url_invalid", param=param)
    return value


FIELDS = {
    **EXPAND,
    "description": clearable(text),
    "enabled_events": event_types,
    "metadata": metadata,
    "url": web_url,
}
CREATE = Form(
    {**FIELDS, "api_version": api_version, "connect": boolean}, required=("enabled_events", "url")
)
UPDATE = Form({**FIELDS, "disabled": boolean})
LIST = list_form()


def create(call: Call) -> Json:
    data, given = call.data, call.params
    if len(data.all("webhook_endpoint").rows) >= MAX_ENDPOINTS:
        mode = "live" if data.livemode else "test"
        raise InvalidRequest(
            f"You have reached the maximum of {MAX_ENDPOINTS} {mode} webhook endpoints.",
        )
    endpoint = data.put(
        {
            "id": data.ids.new("webhook_endpoint"),
            "object": "webhook_endpoint",
            "api_version": given.get("api_version"),
            "application": None,
            "created": data.clock.now(),
            "description": given.get("description"),
            "enabled_events": given["enabled_events"],
            "livemode": data.livemode,
            "metadata": merge_metadata({}, given.get("metadata")),
            "status": "enabled",
            "url": given["url"],
        }
    )
    secret = data.ids.signing_secret()
    data.put({"id": endpoint["id"], "object": "_signing_secret", "secret": secret})
    return {**endpoint, "secret": secret}


def retrieve(call: Call) -> Json:
    return call.data.need("webhook_endpoint", call.id)


def update(call: Call) -> Json:
    endpoint = call.data.need("webhook_endpoint", call.id)
    given = changed_values(endpoint, call.params, "disabled")
    if "disabled" in call.params:
        given["status"] = "disabled" if call.params["disabled"] else "enabled"
    return call.data.put({**endpoint, **given})


def list_(call: Call) -> Json:
    return page(call, "webhook_endpoint", "/v1/webhook_endpoints")


def delete(call: Call) -> Json:
    endpoint = call.data.need("webhook_endpoint", call.id)
    call.data.remove("webhook_endpoint", endpoint["id"])
    return deleted_object("webhook_endpoint", endpoint["id"])


OPERATIONS = (
    Operation("POST", "/v1/webhook_endpoints", CREATE, create),
    Operation("GET", "/v1/webhook_endpoints", LIST, list_),
    Operation("GET", "/v1/webhook_endpoints/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/webhook_endpoints/{id}", UPDATE, update),
    Operation("DELETE", "/v1/webhook_endpoints/{id}", RETRIEVE, delete),
)
