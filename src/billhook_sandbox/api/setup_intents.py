"""Setup intents, for apps that save payment methods without Checkout."""

from billhook_sandbox.api.payment_intents import (
    AUTOMATIC,
    TYPES,
    ignored,
    requested_method,
    with_method,
)
from billhook_sandbox.flows import setup_intent_lifecycle
from billhook_sandbox.flows.payment_intent_lifecycle import (
    CONFIRMABLE,
    require_status,
)
from billhook_sandbox.objects.setup_intent import make_setup_intent
from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    boolean,
    changed_values,
    list_form,
    metadata,
    one_of,
    text,
    url,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

FIELDS = {**EXPAND, "customer": text, "description": text, "metadata": metadata}
AT_CONFIRM = {"mandate_data": ignored, "payment_method": text, "return_url": url}
CREATE = Form(
    {
        **FIELDS,
        **AT_CONFIRM,
        "allowed_payment_method_types": array(one_of(*TYPES)),
        "automatic_payment_methods": AUTOMATIC,
        "confirm": boolean,
        "usage": one_of("off_session", "on_session"),
    }
)
UPDATE = Form({**FIELDS, "payment_method": text})
CONFIRM = Form({**EXPAND, **AT_CONFIRM})
REASONS = one_of("abandoned", "duplicate", "requested_by_customer")
CANCEL = Form({**EXPAND, "cancellation_reason": REASONS})
LIST = list_form(customer=text, payment_method=text)


def create(call: Call) -> Json:
    data, given = call.data, call.params
    if "customer" in given:
        data.need("customer", given["customer"], "customer")
    method = requested_method(data, given)
    types = given.get("allowed_payment_method_types") or list(TYPES)
    intent = with_method(data, make_setup_intent(data, given, types), method)
    return setup_intent_lifecycle.confirm(data, intent) if given.get("confirm") else intent


def retrieve(call: Call) -> Json:
    return call.data.need("setup_intent", call.id)


def list_(call: Call) -> Json:
    keep = matching(call, "payment_method")
    return page(call, "setup_intent", "/v1/setup_intents", keep, by="customer")


def update(call: Call) -> Json:
    """As at Stripe, an update emits no event."""
    data, intent = call.data, call.data.need("setup_intent", call.id)
    values = changed_values(intent, call.params, "payment_method")
    if "customer" in values:
        require_status(intent, CONFIRMABLE, "update")
        data.need("customer", values["customer"], "customer")
    if "payment_method" in call.params:
        require_status(intent, CONFIRMABLE, "update")
    return with_method(data, data.put({**intent, **values}), requested_method(data, call.params))


def confirm(call: Call) -> Json:
    intent = call.data.need("setup_intent", call.id)
    require_status(intent, CONFIRMABLE, "confirm")
    method = requested_method(call.data, call.params)
    return setup_intent_lifecycle.confirm(call.data, with_method(call.data, intent, method))


def cancel(call: Call) -> Json:
    intent = call.data.need("setup_intent", call.id)
    return setup_intent_lifecycle.cancel(call.data, intent, call.params.get("cancellation_reason"))


OPERATIONS = (
    Operation("POST", "/v1/setup_intents", CREATE, create),
    Operation("GET", "/v1/setup_intents", LIST, list_),
    Operation("GET", "/v1/setup_intents/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/setup_intents/{id}", UPDATE, update),
    Operation("POST", "/v1/setup_intents/{id}/confirm", CONFIRM, confirm),
    Operation("POST", "/v1/setup_intents/{id}/cancel", CANCEL, cancel),
)
