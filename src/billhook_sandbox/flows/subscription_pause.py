"""Pauses the collection of a subscription's invoices, and resumes it."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change
from billhook_sandbox.flows.subscription_cancellation import ENDED
from billhook_sandbox.schedule import schedule_at
from billhook_sandbox.store import DataSet, Json


def paused(data: DataSet, subscription: Json, pause: Json | None) -> Json:
    """The changed field of the subscription. None resumes the collection; invoices that were
    created in the meantime stay as they are."""
    if pause is None:
        return {"pause_collection": None}
    param = "pause_collection[behavior]"
    if "behavior" not in pause:
        message = f"Missing required param: {param}."
        raise InvalidRequest(message, code="parameter_missing", param=param)
    resumes_at = pause.get("resumes_at")
    if resumes_at is not None:
        if resumes_at <= data.clock.now():
            message = "`pause_collection[resumes_at]` must be in the future."
            raise InvalidRequest(message, param="pause_collection[resumes_at]")
        schedule_at(data, resumes_at, "resume_collection", subscription=subscription["id"])
    return {"pause_collection": {"resumes_at": None, **pause}}


def resume_when_due(data: DataSet, subscription: str) -> None:
    """Runs at `resumes_at`, unless the pause was changed before."""
    found = data.get("subscription", subscription)
    if found is None or found["status"] in ENDED or found["pause_collection"] is None:
        return
    resumes_at = found["pause_collection"]["resumes_at"]
    if resumes_at is not None and resumes_at <= data.clock.now():
        change(data, found, "customer.subscription.updated", pause_collection=None)
