"""Payment methods: cards by number or test token, SEPA debit by IBAN."""

from typing import Any

from billhook_sandbox.cards import BY_NUMBER, BY_TOKEN, DECLINES, Card, passes_luhn
from billhook_sandbox.errors import CardRefused, InvalidRequest
from billhook_sandbox.event_log import change
from billhook_sandbox.flows import charge_attempts
from billhook_sandbox.objects.card_expiry import schedule_expiry
from billhook_sandbox.objects.payment_method import (
    attach_method,
    billing_details,
    detach_method,
    find_method,
    make_card,
    make_sepa_debit,
)
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    ADDRESS,
    EXPAND,
    RETRIEVE,
    Form,
    clearable,
    email,
    integer,
    list_form,
    merge_metadata,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json


def month(raw: Any, param: str) -> int:
    value = integer(raw, param)
    if not 1 <= value <= 12:
        message = "Your card's expiration month is invalid."
        raise InvalidRequest(message, code="invalid_expiry_month", param=param, status=402)
    return value


BILLING = Form(
    {
        "address": clearable(ADDRESS),
        "email": clearable(email),
        "name": clearable(text),
        "phone": clearable(text),
    }
)
CARD = Form(
    {
        "number": text,
        "exp_month": month,
        "exp_year": integer,
        "cvc": text,
        "token": text,
    }
)
CREATE = Form(
    {
        **EXPAND,
        "allow_redisplay": one_of("always", "limited", "unspecified"),
        "billing_details": BILLING,
        "card": CARD,
        "metadata": metadata,
        "sepa_debit": Form({"iban": text}, required=("iban",)),
        "type": one_of("card", "sepa_debit"),
    },
    required=("type",),
)
EXPIRY = Form({"exp_month": month, "exp_year": integer})
UPDATE = Form({**EXPAND, "billing_details": BILLING, "card": EXPIRY, "metadata": metadata})
ATTACH = Form({**EXPAND, "customer": text}, required=("customer",))
LIST = list_form(by_created=False, customer=text, type=text)
LIST_FOR_CUSTOMER = list_form(by_created=False, type=text)
TOKENS = {card.token.replace("pm_card_", "tok_"): card for card in BY_TOKEN.values()}


def create(call: Call) -> Json:
    given, type_ = call.params, call.params["type"]
    if type_ not in given:
        message = f"Missing required param: {type_}."
        raise InvalidRequest(message, code="parameter_missing", param=type_)
    details = given.get("billing_details")
    if type_ == "sepa_debit":
        iban = given["sepa_debit"]["iban"].replace(" ", "").upper()
        method = make_sepa_debit(call.data, iban, details)
    else:
        card, expiry = card_of(given["card"])
        method = make_card(call.data, card, expiry, details)
    values = {k: given[k] for k in ("allow_redisplay",) if k in given}
    return call.data.put({**method, **values, "metadata": given.get("metadata") or {}})


def card_of(given: Json) -> tuple[Card, tuple[int, int]]:
    if "token" in given:
        card = TOKENS.get(given["token"])
        if card is None:
            message = f"No such token: '{given['token']}'"
            raise InvalidRequest(message, code="resource_missing", param="card[token]")
        return card, (12, 2034)
    for part in ("number", "exp_month", "exp_year"):
        if part not in given:
            param = f"card[{part}]"
            message = f"Missing required param: {param}."
            raise InvalidRequest(message, code="parameter_missing", param=param)
    return card_by_number(given["number"]), (given["exp_month"], given["exp_year"])


def card_by_number(raw: str) -> Card:
    """The test card; any other valid number behaves like a successful Visa card."""
    number = "".join(raw.split())
    if not number.isdigit() or not 12 <= len(number) <= 19 or not passes_luhn(number):
        message = "Your card number is incorrect."
        raise InvalidRequest(message, code="incorrect_number", param="number", status=402)
    return BY_NUMBER.get(number) or Card(number, "")


def retrieve(call: Call) -> Json:
    return call.data.need("payment_method", call.id)


def update(call: Call) -> Json:
    method = call.data.need("payment_method", call.id)
    values: Json = {}
    if "metadata" in call.params:
        values["metadata"] = merge_metadata(method["metadata"], call.params["metadata"])
    if "billing_details" in call.params:
        merged = {**method["billing_details"], **call.params["billing_details"]}
        values["billing_details"] = billing_details(merged)
    if "card" in call.params:
        values["card"] = {**method["card"], **call.params["card"]}
    changed = change(call.data, method, "payment_method.updated", **values)
    if "card" in call.params and method["customer"]:
        schedule_expiry(call.data, changed)
    return changed


def attach(call: Call) -> Json:
    customer = call.data.need("customer", call.params["customer"], "customer")
    method = find_method(call.data, call.id, "payment_method")
    require_chargeable(method)
    return attach_method(call.data, method, customer)


def require_chargeable(method: Json) -> None:
    """Attaching validates the card at the bank; one test card only fails when it is charged."""
    card = charge_attempts.card_of(method)
    if card.payment == "declined" and card.token != "pm_card_chargeCustomerFail":  # noqa: S105
        code, decline_code = card.error_code, card.decline_code
        raise CardRefused(DECLINES[decline_code], code=code, decline_code=decline_code)


def detach(call: Call) -> Json:
    method = call.data.need("payment_method", call.id)
    if method["customer"] is None:
        message = "The payment method you provided is not attached to a customer."
        raise InvalidRequest(message, code="payment_method_unexpected_state")
    return detach_method(call.data, method)


def list_(call: Call) -> Json:
    """Attached methods only: a method used for a single payment has no customer."""
    if "customer" in call.params:
        call.data.need("customer", call.params["customer"], "customer")
    return page_of_attached(call, call.params.get("customer"), "/v1/payment_methods")


def list_for_customer(call: Call) -> Json:
    customer = call.data.need("customer", call.id)
    return page_of_attached(call, customer["id"], f"/v1/customers/{call.id}/payment_methods")


def page_of_attached(call: Call, customer: str | None, url: str) -> Json:
    type_ = call.params.get("type")

    def keep(method: Json) -> bool:
        owner = method["customer"]
        same = owner == customer if customer else owner is not None
        return same and (type_ is None or method["type"] == type_)

    return page(call, "payment_method", url, keep)


OPERATIONS = (
    Operation("POST", "/v1/payment_methods", CREATE, create),
    Operation("GET", "/v1/payment_methods", LIST, list_),
    Operation("GET", "/v1/payment_methods/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/payment_methods/{id}", UPDATE, update),
    Operation("POST", "/v1/payment_methods/{id}/attach", ATTACH, attach),
    Operation("POST", "/v1/payment_methods/{id}/detach", Form(EXPAND), detach),
    Operation("GET", "/v1/customers/{id}/payment_methods", LIST_FOR_CUSTOMER, list_for_customer),
)
