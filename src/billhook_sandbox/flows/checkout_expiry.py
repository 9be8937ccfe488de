"""Expires Checkout Sessions, on request or by time (stripe-facts 8)."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.flows import setup_intent_lifecycle
from billhook_sandbox.store import DataSet, Json


def expire_session(data: DataSet, session: Json) -> Json:
    session = change(data, session, status="expired", url=None)
    if intent := data.get("setup_intent", session["setup_intent"]):
        setup_intent_lifecycle.cancel(data, intent, "abandoned")
    emit(data, "checkout.session.expired", session)
    return session


def expire_when_due(data: DataSet, session: str) -> None:
    found = data.need("checkout.session", session)
    if found["status"] == "open":
        expire_session(data, found)
