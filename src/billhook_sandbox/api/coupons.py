"""Coupons and promotion codes."""

from typing import Any

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.coupon import (
    codes_named,
    make_coupon,
    make_promotion_code,
    with_current_activity,
    with_current_validity,
)
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    at_least,
    boolean,
    changed_values,
    clearable,
    currency,
    decimal,
    integer,
    list_form,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json, deleted_object


def percent(raw: Any, param: str) -> float:
    value = float(decimal(raw, param))
    if not 0 < value <= 100:
        raise InvalidRequest("This value must be between 0 and 100.", param=param)
    return value


CREATE = Form(
    {
        **EXPAND,
        "amount_off": at_least(1),
        "currency": currency,
        "duration": one_of("forever", "once", "repeating"),
        "duration_in_months": at_least(1),
        "id": text,
        "max_redemptions": at_least(1),
        "metadata": metadata,
        "name": text,
        "percent_off": percent,
        "redeem_by": integer,
    }
)
UPDATE = Form({**EXPAND, "metadata": metadata, "name": clearable(text)})
RESTRICTIONS = Form(
    {
        "first_time_transaction": boolean,
        "minimum_amount": at_least(1),
        "minimum_amount_currency": currency,
    }
)
CREATE_CODE = Form(
    {
        **EXPAND,
        "active": boolean,
        "code": text,
        "customer": text,
        "expires_at": integer,
        "max_redemptions": at_least(1),
        "metadata": metadata,
        "promotion": Form({"coupon": text, "type": one_of("coupon")}, required=("coupon", "type")),
        "restrictions": RESTRICTIONS,
    },
    required=("promotion",),
)
UPDATE_CODE = Form({**EXPAND, "active": boolean, "metadata": metadata})
LIST_CODES = list_form(active=boolean, code=text, coupon=text, customer=text)


def create(call: Call) -> Json:
    data, given = call.data, call.params
    if ("amount_off" in given) == ("percent_off" in given):
        message = "You must pass either `percent_off` or `amount_off`, and not both."
        raise InvalidRequest(message, code="parameter_missing", param="percent_off")
    if "amount_off" in given and "currency" not in given:
        message = "Missing required param: currency."
        raise InvalidRequest(message, code="parameter_missing", param="currency")
    if (given.get("duration") == "repeating") != ("duration_in_months" in given):
        message = "You must pass `duration_in_months` if, and only if, `duration` is `repeating`."
        raise InvalidRequest(message, param="duration_in_months")
    if data.get("coupon", given.get("id")):
        message = "Coupon already exists."
        raise InvalidRequest(message, code="resource_already_exists", param="id")
    return make_coupon(data, given)


def retrieve(call: Call) -> Json:
    return with_current_validity(call.data, call.data.need("coupon", call.id))


def update(call: Call) -> Json:
    coupon = call.data.need("coupon", call.id)
    changed = change(call.data, coupon, "coupon.updated", **changed_values(coupon, call.params))
    return with_current_validity(call.data, changed)


def list_(call: Call) -> Json:
    found = page(call, "coupon", "/v1/coupons")
    return {**found, "data": [with_current_validity(call.data, coupon) for coupon in found["data"]]}


def delete(call: Call) -> Json:
    coupon = call.data.need("coupon", call.id)
    call.data.remove("coupon", call.id)
    call.data.put({**coupon, "object": "_deleted_coupon"})  # Its discounts stay valid.
    emit(call.data, "coupon.deleted", {**coupon, "valid": False})
    return deleted_object("coupon", call.id)


def create_code(call: Call) -> Json:
    data, given = call.data, call.params
    coupon = data.need("coupon", given["promotion"]["coupon"], "promotion[coupon]")
    if "customer" in given:
        data.need("customer", given["customer"], "customer")
    if not with_current_validity(data, coupon)["valid"]:
        message = f"Coupon {coupon['id']} is expired or used up."
        raise InvalidRequest(message, code="coupon_expired", param="promotion[coupon]")
    check_limits(data, coupon, given)
    if "code" in given and given.get("active", True):
        require_free_code(data, given["code"], given.get("customer"))
    return make_promotion_code(data, coupon, given)


def check_limits(data: DataSet, coupon: Json, given: Json) -> None:
    """A code cannot outlive its coupon, or be used more often."""
    expires_at, redeem_by = given.get("expires_at"), coupon["redeem_by"]
    if expires_at is not None and expires_at <= data.clock.now():
        raise InvalidRequest("`expires_at` must be in the future.", param="expires_at")
    if expires_at is not None and redeem_by is not None and expires_at > redeem_by:
        message = "`expires_at` cannot be later than the coupon's `redeem_by`."
        raise InvalidRequest(message, param="expires_at")
    uses, most = given.get("max_redemptions"), coupon["max_redemptions"]
    if uses is not None and most is not None and uses > most:
        message = "`max_redemptions` cannot be more than the coupon's `max_redemptions`."
        raise InvalidRequest(message, param="max_redemptions")
    pair = ("minimum_amount", "minimum_amount_currency")
    named = [name for name in pair if name in given.get("restrictions", {})]
    if len(named) == 1:
        other = pair[1 - pair.index(named[0])]
        param = f"restrictions[{other}]"
        message = f"Missing required param: {param}."
        raise InvalidRequest(message, code="parameter_missing", param=param)


def require_free_code(
    data: DataSet, code: str, customer: str | None, owner: str | None = None
) -> None:
    """Regardless of case, a code is unique among a customer's active ones."""
    for found in codes_named(data, code):
        same = found["customer"] == customer and found["id"] != owner
        if same and with_current_activity(data, found)["active"]:
            message = f"An active promotion code with `code: {code}` already exists."
            raise InvalidRequest(message, code="resource_already_exists", param="code")


def retrieve_code(call: Call) -> Json:
    return with_current_activity(call.data, call.data.need("promotion_code", call.id))


def update_code(call: Call) -> Json:
    code = call.data.need("promotion_code", call.id)
    if call.params.get("active"):
        require_free_code(call.data, code["code"], code["customer"], code["id"])
        if not with_current_activity(call.data, {**code, "active": True})["active"]:
            message = "This promotion code is expired or used up, and can't be activated."
            raise InvalidRequest(message, param="active")
    changed = change(call.data, code, "promotion_code.updated", **changed_values(code, call.params))
    return with_current_activity(call.data, changed)


def list_codes(call: Call) -> Json:
    given = call.params

    def keep(code: Json) -> bool:
        return (
            all(code[key] == given[key] for key in ("code", "customer") if key in given)
            and ("coupon" not in given or code["promotion"]["coupon"] == given["coupon"])
            and (
                "active" not in given
                or with_current_activity(call.data, code)["active"] == given["active"]
            )
        )

    found = page(call, "promotion_code", "/v1/promotion_codes", keep)
    return {**found, "data": [with_current_activity(call.data, code) for code in found["data"]]}


OPERATIONS = (
    Operation("POST", "/v1/coupons", CREATE, create),
    Operation("GET", "/v1/coupons", list_form(), list_),
    Operation("GET", "/v1/coupons/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/coupons/{id}", UPDATE, update),
    Operation("DELETE", "/v1/coupons/{id}", RETRIEVE, delete),
    Operation("POST", "/v1/promotion_codes", CREATE_CODE, create_code),
    Operation("GET", "/v1/promotion_codes", LIST_CODES, list_codes),
    Operation("GET", "/v1/promotion_codes/{id}", RETRIEVE, retrieve_code),
    Operation("POST", "/v1/promotion_codes/{id}", UPDATE_CODE, update_code),
)
