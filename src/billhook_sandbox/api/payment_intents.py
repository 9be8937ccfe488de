"""Payment intents, for apps that take payments without Checkout."""

from typing import Any

from billhook_sandbox.api.checkout_sessions import MINIMUM_AMOUNTS, PAYMENT_INTENT_DATA
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import emit
from billhook_sandbox.flows import payment_intent_lifecycle
from billhook_sandbox.objects.payment_intent import full_shipping, make_intent, options_for
from billhook_sandbox.objects.payment_method import find_method
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    at_least,
    boolean,
    currency,
    list_form,
    merge_metadata,
    one_of,
    text,
    url,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json

CAPTURE_METHODS = one_of("automatic", "automatic_async", "manual")
TYPES = ("card", "sepa_debit")


def ignored(raw: Any, _: str) -> Any:
    """Accepts a parameter that has no effect in the sandbox."""
    return raw


AUTOMATIC = Form(
    {"enabled": boolean, "allow_redirects": one_of("always", "never")}, required=("enabled",)
)
FIELDS = {**EXPAND, **PAYMENT_INTENT_DATA.types, "customer": text, "payment_method": text}
AT_CONFIRM = {"mandate_data": ignored, "off_session": boolean, "return_url": url}
CREATE = Form(
    {
        **FIELDS,
        **AT_CONFIRM,
        "allowed_payment_method_types": array(one_of(*TYPES)),
        "amount": at_least(1),
        "automatic_payment_methods": AUTOMATIC,
        "capture_method": CAPTURE_METHODS,
        "confirm": boolean,
        "confirmation_method": one_of("automatic", "manual"),
        "currency": currency,
    },
    required=("amount", "currency"),
)
UPDATE = Form({**FIELDS, "amount": at_least(1), "currency": currency})
CONFIRM = Form({**FIELDS, **AT_CONFIRM, "capture_method": CAPTURE_METHODS})
CAPTURE = Form({**EXPAND, "amount_to_capture": at_least(1)})
REASONS = one_of("abandoned", "duplicate", "fraudulent", "requested_by_customer")
CANCEL = Form({**EXPAND, "cancellation_reason": REASONS})
LIST = list_form(customer=text)
SETTINGS = ("capture_method", *PAYMENT_INTENT_DATA.types)
STORED = ("amount", "currency", "customer", *SETTINGS)


def create(call: Call) -> Json:
    data, given = call.data, call.params
    check_amount(given["amount"], given["currency"])
    if "customer" in given:
        data.need("customer", given["customer"], "customer")
    allowed = given.get("allowed_payment_method_types")
    if allowed and "automatic_payment_methods" in given:
        message = "You may only specify one of these parameters: automatic_payment_methods, "
        raise InvalidRequest(message + "allowed_payment_method_types.")
    types = allowed or [t for t in TYPES if t == "card" or given["currency"] == "eur"]
    automatic = None if allowed else given.get("automatic_payment_methods", {"enabled": True})
    values = {key: given[key] for key in SETTINGS if key in given}
    values |= {
        "allowed_payment_method_types": allowed,
        "automatic_payment_methods": automatic and {"allow_redirects": "always", **automatic},
        "confirmation_method": given.get("confirmation_method", "automatic"),
        "metadata": merge_metadata({}, given.get("metadata", {})),
        "payment_method_options": {k: v for t in types for k, v in options_for(t).items()},
        "payment_method_types": types,
        "shipping": full_shipping(given.get("shipping")),
    }
    method = requested_method(data, given)
    amount, customer = given["amount"], given.get("customer")
    intent = make_intent(data, amount, given["currency"], customer, {"type": types[0]}, **values)
    intent = with_method(data, intent, method)
    emit(data, "payment_intent.created", intent)
    if given.get("confirm"):
        return attempt(call, intent)
    return intent


def requested_method(data: DataSet, given: Json) -> Json | None:
    method_id = given.get("payment_method")
    return find_method(data, method_id, "payment_method") if method_id else None


def with_method(data: DataSet, intent: Json, method: Json | None) -> Json:
    if method is None:
        return intent
    payment_intent_lifecycle.check_method(intent, method)
    values = {"payment_method": method["id"], "status": "requires_confirmation"}
    return data.put({**intent, **values, "next_action": None})


def check_amount(amount: int, currency_: str) -> None:
    minimum = MINIMUM_AMOUNTS.get(currency_, 0)
    if amount < minimum:
        message = f"Amount must be at least {minimum / 100:.2f} {currency_}"
        raise InvalidRequest(message, code="amount_too_small", param="amount")


def retrieve(call: Call) -> Json:
    return call.data.need("payment_intent", call.id)


def list_(call: Call) -> Json:
    return page(call, "payment_intent", "/v1/payment_intents", by="customer")


def with_changes(data: DataSet, intent: Json, given: Json) -> Json:
    """As at Stripe, an update emits no event."""
    values = {key: given[key] for key in STORED if key in given}
    if "metadata" in values:
        values["metadata"] = merge_metadata(intent["metadata"], values["metadata"])
    if "shipping" in values:
        values["shipping"] = full_shipping(values["shipping"])
    if "customer" in values:
        data.need("customer", values["customer"], "customer")
    if values.keys() - {"metadata", "description"} or "payment_method" in given:
        payment_intent_lifecycle.require_status(
            intent, payment_intent_lifecycle.CONFIRMABLE, "update"
        )
    changed = data.put({**intent, **values})
    check_amount(changed["amount"], changed["currency"])
    return with_method(data, changed, requested_method(data, given))


def update(call: Call) -> Json:
    intent = call.data.need("payment_intent", call.id)
    return with_changes(call.data, intent, call.params)


def confirm(call: Call) -> Json:
    intent = call.data.need("payment_intent", call.id)
    payment_intent_lifecycle.require_status(intent, payment_intent_lifecycle.CONFIRMABLE, "confirm")
    intent = with_changes(call.data, intent, call.params)
    return attempt(call, intent)


def attempt(call: Call, intent: Json) -> Json:
    given = call.params
    return payment_intent_lifecycle.confirm(
        call.data,
        intent,
        given.get("off_session", False),
        given.get("return_url"),
        call.base_url,
    )


def capture(call: Call) -> Json:
    intent = call.data.need("payment_intent", call.id)
    return payment_intent_lifecycle.capture(call.data, intent, call.params.get("amount_to_capture"))


def cancel(call: Call) -> Json:
    intent = call.data.need("payment_intent", call.id)
    return payment_intent_lifecycle.cancel(
        call.data, intent, call.params.get("cancellation_reason")
    )


OPERATIONS = (
    Operation("POST", "/v1/payment_intents", CREATE, create),
    Operation("GET", "/v1/payment_intents", LIST, list_),
    Operation("GET", "/v1/payment_intents/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/payment_intents/{id}", UPDATE, update),
    Operation("POST", "/v1/payment_intents/{id}/confirm", CONFIRM, confirm),
    Operation("POST", "/v1/payment_intents/{id}/capture", CAPTURE, capture),
    Operation("POST", "/v1/payment_intents/{id}/cancel", CANCEL, cancel),
)
