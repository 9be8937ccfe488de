"""The balance and its transactions."""

from billhook_sandbox.objects.balance_summary import balance_of, with_current_status
from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import RETRIEVE, list_form, text
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

TRANSACTIONS = list_form(source=text, type=text, currency=text)


def retrieve(call: Call) -> Json:
    return balance_of(call.data)


def retrieve_transaction(call: Call) -> Json:
    return with_current_status(call.data, call.data.need("balance_transaction", call.id))


def list_transactions(call: Call) -> Json:
    keep = matching(call, "type", "currency")
    found = page(call, "balance_transaction", "/v1/balance_transactions", keep, by="source")
    return {**found, "data": [with_current_status(call.data, obj) for obj in found["data"]]}


OPERATIONS = (
    Operation("GET", "/v1/balance", RETRIEVE, retrieve),
    Operation("GET", "/v1/balance_transactions", TRANSACTIONS, list_transactions),
    Operation("GET", "/v1/balance_transactions/{id}", RETRIEVE, retrieve_transaction),
)
