"""Customers. A deleted customer can still be retrieved, with `deleted: true` (stripe-facts 23)."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change
from billhook_sandbox.flows.customer_deletion import delete_customer
from billhook_sandbox.objects.customer import full_address, full_shipping, make_customer
from billhook_sandbox.objects.payment_method import attach_method, find_method
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    ADDRESS,
    EXPAND,
    RETRIEVE,
    Form,
    ParamType,
    array,
    changed_values,
    clearable,
    email,
    list_form,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json, deleted_object

SHIPPING = Form({"address": ADDRESS, "name": text, "phone": text}, required=("address", "name"))
INVOICE_SETTINGS = Form({"default_payment_method": clearable(text), "footer": clearable(text)})
FIELDS: dict[str, ParamType] = {
    **EXPAND,
    "address": clearable(ADDRESS),
    "description": clearable(text),
    "email": clearable(email),
    "invoice_settings": INVOICE_SETTINGS,
    "metadata": metadata,
    "name": clearable(text),
    "phone": clearable(text),
    "preferred_locales": array(text),
    "shipping": clearable(SHIPPING),
    "tax_exempt": one_of("none", "exempt", "reverse"),
}
CREATE = Form({**FIELDS, "payment_method": text, "test_clock": text})
UPDATE = Form(FIELDS)
LIST = list_form(email=text)


def create(call: Call) -> Json:
    data, given, method = call.data, call.params, call.params.get("payment_method")
    default = given.get("invoice_settings", {}).get("default_payment_method")
    if default and default != method:
        raise InvalidRequest(
            f"The customer does not have a payment method with the ID {default}. The payment "
            "method must be attached to the customer.",
            code="resource_missing",
            param="invoice_settings[default_payment_method]",
        )
    if method:
        method = find_method(data, method, "payment_method")
        if default:
            settings = {**given["invoice_settings"], "default_payment_method": method["id"]}
            given = {**given, "invoice_settings": settings}
    clock_id = call.params.get("test_clock")
    clock = data.need("test_helpers.test_clock", clock_id, "test_clock") if clock_id else None
    with data.on_clock(clock):
        customer = make_customer(data, given)
    if method:
        attach_method(data, method, customer)
    return customer


def retrieve(call: Call) -> Json:
    if call.data.get("_deleted_customer", call.id):
        return deleted_object("customer", call.id)
    return call.data.need("customer", call.id)


def update(call: Call) -> Json:
    data, customer = call.data, call.data.need("customer", call.id)
    given = changed_values(customer, call.params)
    if "address" in given:
        given["address"] = full_address(given["address"])
    if "shipping" in given:
        given["shipping"] = full_shipping(given["shipping"])
    if "invoice_settings" in given:
        method = given["invoice_settings"].get("default_payment_method")
        if method:
            data.need("payment_method", method, "invoice_settings[default_payment_method]")
        given["invoice_settings"] = {**customer["invoice_settings"], **given["invoice_settings"]}
    return change(data, customer, "customer.updated", **given)


def list_(call: Call) -> Json:
    return page(call, "customer", "/v1/customers", by="email")


def delete(call: Call) -> Json:
    return delete_customer(call.data, call.data.need("customer", call.id))


OPERATIONS = (
    Operation("POST", "/v1/customers", CREATE, create),
    Operation("GET", "/v1/customers", LIST, list_),
    Operation("GET", "/v1/customers/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/customers/{id}", UPDATE, update),
    Operation("DELETE", "/v1/customers/{id}", RETRIEVE, delete),
)
