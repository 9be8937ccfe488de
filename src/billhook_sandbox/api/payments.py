"""What was paid: charges, balance transactions, the balance."""

from billhook_sandbox.events import change
from billhook_sandbox.flows import paying
from billhook_sandbox.lists import page
from billhook_sandbox.objects.balance import as_of_now, balance_of
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
CHARGES = list_form(customer=text, payment_intent=text)
TRANSACTIONS = list_form(source=text, type=text, currency=text)


def charge(call: Call) -> Json:
    return call.data.need("charge", call.id)


def charges(call: Call) -> Json:
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
    paying.capture(
        data, data.need("payment_intent", found["payment_intent"]), call.params.get("amount")
    )
    return data.need("charge", call.id)


def balance_transaction(call: Call) -> Json:
    return as_of_now(call.data, call.data.need("balance_transaction", call.id))


def balance_transactions(call: Call) -> Json:
    wanted = {k: call.params[k] for k in ("type", "currency") if k in call.params}

    def keep(obj: Json) -> bool:
        return all(obj[key] == value for key, value in wanted.items())

    found = page(call, "balance_transaction", "/v1/balance_transactions", keep, by="source")
    return {**found, "data": [as_of_now(call.data, obj) for obj in found["data"]]}


def balance(call: Call) -> Json:
    return balance_of(call.data)


OPERATIONS = (
    Operation("GET", "/v1/charges", CHARGES, charges),
    Operation("GET", "/v1/charges/{id}", RETRIEVE, charge),
    Operation("POST", "/v1/charges/{id}", UPDATE, update),
    Operation("POST", "/v1/charges/{id}/capture", CAPTURE, capture),
    Operation("GET", "/v1/balance", RETRIEVE, balance),
    Operation("GET", "/v1/balance_transactions", TRANSACTIONS, balance_transactions),
    Operation("GET", "/v1/balance_transactions/{id}", RETRIEVE, balance_transaction),
)
