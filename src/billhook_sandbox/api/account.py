"""The account that the key belongs to."""

from billhook_sandbox.objects.account import render
from billhook_sandbox.params import RETRIEVE, list_form
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json


def retrieve(call: Call) -> Json:
    return render(call.data)


def retrieve_by_id(call: Call) -> Json:
    account = render(call.data)
    if call.id != account["id"]:
        return call.data.need("account", call.id)
    return account


def connected(call: Call) -> Json:
    """Accounts connected to this one: there are none, and the own one is not among them."""
    return {"object": "list", "url": "/v1/accounts", "has_more": False, "data": []}


OPERATIONS = (
    Operation("GET", "/v1/accounts", list_form(), connected),
    Operation("GET", "/v1/account", RETRIEVE, retrieve),
    Operation("GET", "/v1/accounts/{id}", RETRIEVE, retrieve_by_id),
)
