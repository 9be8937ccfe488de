"""Tax ids of customers."""

from billhook_sandbox.errors import resource_missing
from billhook_sandbox.event_log import emit
from billhook_sandbox.objects.tax_id import make_tax_id
from billhook_sandbox.pagination import page
from billhook_sandbox.params import EXPAND, RETRIEVE, Form, list_form, text
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json, deleted_object

PATH = "/v1/customers/{customer}/tax_ids"
CREATE = Form({**EXPAND, "type": text, "value": text}, required=("type", "value"))
LIST = list_form(by_created=False)


def customer_of(call: Call) -> str:
    return str(call.data.need("customer", call.path["customer"])["id"])


def create(call: Call) -> Json:
    return make_tax_id(call.data, customer_of(call), call.params["type"], call.params["value"])


def retrieve(call: Call) -> Json:
    customer, found = customer_of(call), call.data.get("tax_id", call.id)
    if found is None or found["customer"] != customer:
        raise resource_missing("tax id", call.id, "id", 404)
    return found


def list_(call: Call) -> Json:
    customer = customer_of(call)
    url = PATH.format(customer=customer)
    return page(call, "tax_id", url, lambda found: bool(found["customer"] == customer))


def delete(call: Call) -> Json:
    found = retrieve(call)
    call.data.remove("tax_id", found["id"])
    emit(call.data, "customer.tax_id.deleted", found)
    return deleted_object("tax_id", found["id"])


OPERATIONS = (
    Operation("POST", PATH, CREATE, create),
    Operation("GET", PATH, LIST, list_),
    Operation("GET", f"{PATH}/{{id}}", RETRIEVE, retrieve),
    Operation("DELETE", f"{PATH}/{{id}}", RETRIEVE, delete),
)
