"""Events of the last 30 days, in the API version they were created in (stripe-facts 32, 33)."""

from collections.abc import Callable
from fnmatch import fnmatchcase

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.pagination import page
from billhook_sandbox.params import RETRIEVE, array, boolean, list_form, text
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

RETENTION_SECONDS = 30 * 86400
LIST = list_form(delivery_success=boolean, type=text, types=array(text))


def retrieve(call: Call) -> Json:
    event = call.data.need("event", call.id)
    if event["created"] < call.data.clock.now() - RETENTION_SECONDS:
        message = f"No such event: '{call.id}'"
        raise InvalidRequest(message, code="resource_missing", param="id", status=404)
    return event


def list_(call: Call) -> Json:
    oldest = call.data.clock.now() - RETENTION_SECONDS
    has_type = type_filter(call.params)
    delivered = call.params.get("delivery_success")

    def keep(event: Json) -> bool:
        return (
            event["created"] >= oldest
            and has_type(event["type"])
            and (delivered is None or delivered == (event["pending_webhooks"] == 0))
        )

    return page(call, "event", "/v1/events", keep)


def type_filter(wanted: Json) -> Callable[[str], bool]:
    one, several = wanted.get("type"), wanted.get("types")
    if one and several:
        message = "You may only specify one of these parameters: type, types."
        raise InvalidRequest(message, param="types")
    if several and len(several) > 20:
        message = "You may specify up to 20 event types."
        raise InvalidRequest(message, param="types")
    if one:
        return lambda type_: fnmatchcase(type_, one)
    return lambda type_: several is None or type_ in several


OPERATIONS = (
    Operation("GET", "/v1/events", LIST, list_),
    Operation("GET", "/v1/events/{id}", RETRIEVE, retrieve),
)
