"""Charges: read, update, capture."""

from billhook_sandbox.event_log import change
from billhook_sandbox.flows import payment_intent_lifecycle
from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    at_least,
    changed_values,
    clearable,
    email,
    list_form,
    metadata,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

UPDATE = Form(
    {
        **EXPAND,
        "description": clearable(text),
        "metadata": metadata,
        "receipt_email": clearable(email),
    }
)
CAPTURE = Form({**EXPAND, "amount": at_least(1)})
LIST = list_form(customer=text, payment_intent=text)


def retrieve(call: Call) -> Json:
    return call.data.need("charge", call.id)


def list_(call: Call) -> Json:
    by = "payment_intent" if "payment_intent" in call.params else "customer"
    return page(call, "charge", "/v1/charges", matching(call, "customer"), by=by)


def update(call: Call) -> Json:
    found = call.data.need("charge", call.id)
    return change(call.data, found, "charge.updated", **changed_values(found, call.params))


def capture(call: Call) -> Json:
    data, found = call.data, call.data.need("charge", call.id)
    payment_intent_lifecycle.capture(
        data, data.need("payment_intent", found["payment_intent"]), call.params.get("amount")
    )
    return data.need("charge", call.id)


OPERATIONS = (
    Operation("GET", "/v1/charges", LIST, list_),
    Operation("GET", "/v1/charges/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/charges/{id}", UPDATE, update),
    Operation("POST", "/v1/charges/{id}/capture", CAPTURE, capture),
)
