"""Shipping rates."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.objects.shipping_rate import make_shipping_rate
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    ParamType,
    at_least,
    boolean,
    changed_values,
    currency,
    list_form,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

PATH = "/v1/shipping_rates"
TAX_BEHAVIOR = one_of("exclusive", "inclusive", "unspecified")
DURATION = Form(
    {"unit": one_of("business_day", "day", "hour", "month", "week"), "value": at_least(1)},
    required=("unit", "value"),
)
RATE: dict[str, ParamType] = {
    "delivery_estimate": Form({"maximum": DURATION, "minimum": DURATION}),
    "display_name": text,
    "fixed_amount": Form(
        {"amount": at_least(0), "currency": currency}, required=("amount", "currency")
    ),
    "metadata": metadata,
    "tax_behavior": TAX_BEHAVIOR,
    "tax_code": text,
    "type": one_of("fixed_amount"),
}
RATE_DATA = Form(RATE, required=("display_name",))
CREATE = Form({**EXPAND, **RATE}, required=("display_name",))
UPDATE = Form({**EXPAND, "active": boolean, "metadata": metadata, "tax_behavior": TAX_BEHAVIOR})
LIST = list_form(active=boolean, currency=currency)


def require_amount(given: Json, param: str) -> None:
    if "fixed_amount" not in given:
        message = f"Missing required param: {param}."
        raise InvalidRequest(message, code="parameter_missing", param=param)


def create(call: Call) -> Json:
    require_amount(call.params, "fixed_amount")
    return make_shipping_rate(call.data, call.params)


def retrieve(call: Call) -> Json:
    return call.data.need("shipping_rate", call.id)


def update(call: Call) -> Json:
    rate, given = call.data.need("shipping_rate", call.id), call.params
    new = given.get("tax_behavior", rate["tax_behavior"])
    if rate["tax_behavior"] not in ("unspecified", new):
        message = "You can't change `tax_behavior` once it is set to exclusive or inclusive."
        raise InvalidRequest(message, param="tax_behavior")
    return call.data.put({**rate, **changed_values(rate, given)})


def list_(call: Call) -> Json:
    wanted = call.params

    def keep(rate: Json) -> bool:
        found = {"active": rate["active"], "currency": rate["fixed_amount"]["currency"]}
        return all(wanted.get(key, value) == value for key, value in found.items())

    return page(call, "shipping_rate", PATH, keep)


OPERATIONS = (
    Operation("POST", PATH, CREATE, create),
    Operation("GET", PATH, LIST, list_),
    Operation("GET", f"{PATH}/{{id}}", RETRIEVE, retrieve),
    Operation("POST", f"{PATH}/{{id}}", UPDATE, update),
)
