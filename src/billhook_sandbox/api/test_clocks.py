"""Test clocks: simulated time for their customers (stripe-facts 20)."""

from billhook_sandbox.errors import InvalidRequest, StripeError
from billhook_sandbox.event_log import emit
from billhook_sandbox.flows.customer_deletion import delete_customer
from billhook_sandbox.flows.subscription_cancellation import ENDED
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.pagination import page
from billhook_sandbox.params import EXPAND, RETRIEVE, Form, integer, list_form, text
from billhook_sandbox.periods import period_end
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.schedule import schedule_in
from billhook_sandbox.store import DataSet, Json, deleted_object

KIND = "test_helpers.test_clock"
PATH = "/v1/test_helpers/test_clocks"
RETENTION_SECONDS = 30 * 86400
CREATE = Form({**EXPAND, "frozen_time": integer, "name": text}, required=("frozen_time",))
ADVANCE = Form({**EXPAND, "frozen_time": integer}, required=("frozen_time",))


def create(call: Call) -> Json:
    data, now = call.data, call.data.clock.now()
    clock = data.put(
        {
            "id": data.ids.new(KIND),
            "object": KIND,
            "created": now,
            "deletes_after": now + RETENTION_SECONDS,
            "frozen_time": call.params["frozen_time"],
            "livemode": data.livemode,
            "name": call.params.get("name"),
            "status": "ready",
            "status_details": {},
        }
    )
    emit(data, f"{KIND}.created", clock)
    return clock


def retrieve(call: Call) -> Json:
    return call.data.need(KIND, call.id)


def list_(call: Call) -> Json:
    return page(call, KIND, PATH)


def advance(call: Call) -> Json:
    """Responds immediately; the due jobs run afterwards, then the status becomes `ready`."""
    data, clock, target = call.data, call.data.need(KIND, call.id), call.params["frozen_time"]
    require_not_advancing(clock)
    if target <= clock["frozen_time"]:
        message = "The frozen time must be after the current frozen time of the test clock."
        raise InvalidRequest(message, param="frozen_time")
    if target > latest_allowed_time(data, clock):
        raise InvalidRequest(
            "You cannot advance a test clock by more than two intervals of its shortest "
            "subscription, or by two years.",
            code="test_clock_advance_too_far",
            param="frozen_time",
        )
    details = {"advancing": {"target_frozen_time": target}}
    clock = data.put({**clock, "status": "advancing", "status_details": details})
    emit(data, f"{KIND}.advancing", clock)
    schedule_in(data, 0, "advance_clock", clock=clock["id"])
    return clock


def require_not_advancing(clock: Json) -> None:
    if clock["status"] == "advancing":
        message = "Test clock advancement underway - cannot perform modifications."
        raise StripeError(message, status=429)


def latest_allowed_time(data: DataSet, clock: Json) -> int:
    now = clock["frozen_time"]
    ends: list[int] = [now + 2 * 366 * 86400]
    for customer in data.all("customer").where("test_clock", clock["id"]):
        for subscription in data.all("subscription").where("customer", customer["id"]):
            if subscription["status"] in ENDED:
                continue
            for item in items_of(data, subscription["id"]):
                recurring = item["price"]["recurring"]
                ends.append(period_end(period_end(now, recurring, now), recurring, now))
    return min(ends)


def delete(call: Call) -> Json:
    """Deletes the clock and its customers."""
    data, clock = call.data, call.data.need(KIND, call.id)
    require_not_advancing(clock)
    for customer in data.all("customer").where("test_clock", clock["id"]):
        with data.on_clock(clock):
            delete_customer(data, customer)
    data.remove(KIND, clock["id"])
    for job in data.all("_job").where("clock", clock["id"]):
        data.remove("_job", job["id"])
    emit(data, f"{KIND}.deleted", clock)
    return deleted_object(KIND, clock["id"])


OPERATIONS = (
    Operation("POST", PATH, CREATE, create),
    Operation("GET", PATH, list_form(), list_),
    Operation("GET", f"{PATH}/{{id}}", RETRIEVE, retrieve),
    Operation("POST", f"{PATH}/{{id}}/advance", ADVANCE, advance),
    Operation("DELETE", f"{PATH}/{{id}}", RETRIEVE, delete),
)
