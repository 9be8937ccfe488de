"""Tax rates. The sandbox creates them itself, for automatic taxes."""

from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import RETRIEVE, boolean, list_form
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

LIST = list_form(active=boolean, inclusive=boolean)


def retrieve(call: Call) -> Json:
    return call.data.need("tax_rate", call.id)


def list_(call: Call) -> Json:
    return page(call, "tax_rate", "/v1/tax_rates", matching(call, "active", "inclusive"))


OPERATIONS = (
    Operation("GET", "/v1/tax_rates", LIST, list_),
    Operation("GET", "/v1/tax_rates/{id}", RETRIEVE, retrieve),
)
