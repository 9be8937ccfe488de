"""The account of the API key."""

from billhook_sandbox.objects.account import account_object
from billhook_sandbox.params import RETRIEVE, list_form
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json


def retrieve(call: Call) -> Json:
    return account_object(call.data)


def retrieve_by_id(call: Call) -> Json:
    account = account_object(call.data)
    if call.id != account["id"]:
        return call.data.need("account", call.id)
    return account


def list_connected(call: Call) -> Json:
    """Connected accounts, of which there are none; the account itself is not in this list."""
    return {"object": "list", "url": "/v1/accounts", "has_more": False, "data": []}


OPERATIONS = (
    Operation("GET", "/v1/accounts", list_form(), list_connected),
    Operation("GET", "/v1/account", RETRIEVE, retrieve),
    Operation("GET", "/v1/accounts/{id}", RETRIEVE, retrieve_by_id),
)
