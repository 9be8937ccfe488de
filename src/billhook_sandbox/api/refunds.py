"""Refunds of a charge, given directly or by its payment intent."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change
from billhook_sandbox.flows.refund_lifecycle import cancel_refund, refund_charge
from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    at_least,
    changed_values,
    list_form,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

CREATE = Form(
    {
        **EXPAND,
        "amount": at_least(1),
        "charge": text,
        "metadata": metadata,
        "payment_intent": text,
        "reason": one_of("duplicate", "fraudulent", "requested_by_customer"),
    }
)
UPDATE = Form({**EXPAND, "metadata": metadata})
LIST = list_form(charge=text, payment_intent=text)


def create(call: Call) -> Json:
    data, given = call.data, call.params
    if "charge" not in given and "payment_intent" not in given:
        message = "One of the following params should be provided for this request: payment_intent "
        raise InvalidRequest(message + "or charge.", code="parameter_missing")
    charge_id = given.get("charge")
    if "payment_intent" in given:
        intent = data.need("payment_intent", given["payment_intent"], "payment_intent")
        charge_id = charge_id or intent["latest_charge"]
        if charge_id is None:
            message = f"This PaymentIntent ({intent['id']}) does not have a successful charge."
            raise InvalidRequest(message, param="payment_intent")
    return refund_charge(data, data.need("charge", str(charge_id), "charge"), given)


def retrieve(call: Call) -> Json:
    return call.data.need("refund", call.id)


def update(call: Call) -> Json:
    refund = call.data.need("refund", call.id)
    return change(call.data, refund, "refund.updated", **changed_values(refund, call.params))


def list_(call: Call) -> Json:
    by = "payment_intent" if "payment_intent" in call.params else "charge"
    return page(call, "refund", "/v1/refunds", matching(call, "charge"), by=by)


def cancel(call: Call) -> Json:
    """Only refunds in `requires_action` can be canceled (stripe-facts 30)."""
    return cancel_refund(call.data, call.data.need("refund", call.id))


OPERATIONS = (
    Operation("POST", "/v1/refunds", CREATE, create),
    Operation("GET", "/v1/refunds", LIST, list_),
    Operation("GET", "/v1/refunds/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/refunds/{id}", UPDATE, update),
    Operation("POST", "/v1/refunds/{id}/cancel", Form(EXPAND), cancel),
)
