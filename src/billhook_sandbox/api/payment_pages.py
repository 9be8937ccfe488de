"""The API with which Stripe's page and CLI pay a Checkout Session (stripe-facts, section 5)."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.checkout_payment import pay
from billhook_sandbox.flows.checkout_sample_buyer import sample_buyer
from billhook_sandbox.objects.payment_method import find_method
from billhook_sandbox.params import EXPAND, RETRIEVE, Form, integer, text
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json

CONFIRM = Form(
    {
        **EXPAND,
        "eid": text,
        "email": text,
        "expected_amount": integer,
        "expected_payment_method_type": text,
        "payment_method": text,
    },
    required=("payment_method",),
)


def retrieve(call: Call) -> Json:
    return page_object(call.data, call.data.need("checkout.session", call.id))


def page_object(data: DataSet, session: Json) -> Json:
    """The session as the page reads it. The SDK has no type for it; the CLI reads a few fields."""
    record = data.need("_checkout", session["id"])
    return {
        "id": session["id"],
        "object": "checkout.session",
        "eid": "NA",
        "livemode": session["livemode"],
        "mode": session["mode"],
        "payment_intent": data.get("payment_intent", record["payment_intent"]),
        "payment_method_types": session["payment_method_types"],
        "payment_status": session["payment_status"],
        "state": "active" if session["status"] == "open" else session["status"],
        "status": session["status"],
        "success_url": session["success_url"],
        "cancel_url": session["cancel_url"],
        "line_item_group": {
            "currency": session["currency"],
            "due": session["amount_total"],
            "line_items": record["line_items"],
            "subtotal": session["amount_subtotal"],
            "total": session["amount_total"],
        },
    }


def confirm(call: Call) -> Json:
    session = call.data.need("checkout.session", call.id)
    expected = call.params.get("expected_amount", session["amount_total"])
    if expected != session["amount_total"]:
        raise InvalidRequest(
            f"The expected amount ({expected}) differs from the amount of the session "
            f"({session['amount_total']}).",
            code="checkout_amount_mismatch",
            param="expected_amount",
        )
    method = find_method(call.data, call.params["payment_method"], "payment_method")
    details = method["billing_details"]
    given = {"email": call.params.get("email") or details["email"], "name": details["name"]}
    session = pay(call.data, session, method, sample_buyer(call.data, session, given))
    return page_object(call.data, session)


OPERATIONS = (
    Operation("GET", "/v1/payment_pages/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/payment_pages/{id}/confirm", CONFIRM, confirm),
)
