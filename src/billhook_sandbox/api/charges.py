"""Charges: read, update, capture."""

from billhook_sandbox.event_log import change
from billhook_sandbox.flows import payment_intent_lifecycle
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    at_least,
    clearable,
    email,
    list_form,
    merge_metadata,
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
    customer = call.params.get("customer")

    def keep(obj: Json) -> bool:
        return customer is None or obj["customer"] == customer

    by = "payment_intent" if "payment_intent" in call.params else "customer"
    return page(call, "charge", "/v1/charges", keep, by=by)


def update(call: Call) -> Json:
    found = call.data.need("charge", call.id)
    values = {key: value for key, value in call.params.items() if key != "expand"}
    if "metadata" in values:
        values["metadata"] = merge_metadata(found["metadata"], values["metadata"])
    return change(call.data, found, "charge.updated", **values)


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
