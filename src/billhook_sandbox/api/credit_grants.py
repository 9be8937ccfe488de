"""Billing credits: grants, the balance of a customer, and its transactions."""

from typing import Any

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.credit_grant import (
    KIND,
    TRANSACTIONS,
    amount_of,
    is_effective,
    left,
    make_grant,
    put_transaction,
)
from billhook_sandbox.pagination import page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    at_least,
    changed_values,
    clearable,
    currency,
    integer,
    list_form,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json


def priority(raw: Any, param: str) -> int:
    value = integer(raw, param)
    if not 0 <= value <= 100:
        raise InvalidRequest("This value must be between 0 and 100.", param=param)
    return value


MONETARY = Form({"currency": currency, "value": at_least(1)}, required=("currency", "value"))
AMOUNT = Form({"monetary": MONETARY, "type": one_of("monetary")}, required=("type", "monetary"))
SCOPE = Form(
    {"price_type": one_of("metered"), "prices": array(Form({"id": text}, required=("id",)))}
)
CREATE = Form(
    {
        **EXPAND,
        "amount": AMOUNT,
        "applicability_config": Form({"scope": SCOPE}, required=("scope",)),
        "category": one_of("paid", "promotional"),
        "customer": text,
        "effective_at": integer,
        "expires_at": integer,
        "metadata": metadata,
        "name": text,
        "priority": priority,
    },
    required=("amount", "applicability_config", "customer"),
)
UPDATE = Form({**EXPAND, "expires_at": clearable(integer), "metadata": metadata})
LIST = list_form(by_created=False, customer=text)
FILTER = Form(
    {
        "applicability_scope": SCOPE,
        "credit_grant": text,
        "type": one_of("applicability_scope", "credit_grant"),
    },
    required=("type",),
)
SUMMARY = Form({**EXPAND, "customer": text, "filter": FILTER}, required=("customer", "filter"))
LIST_TRANSACTIONS = list_form(by_created=False, customer=text, credit_grant=text)
PATH = "/v1/billing/credit_grants"


def create(call: Call) -> Json:
    data, given = call.data, call.params
    customer = data.need("customer", given["customer"], "customer")
    scope = given["applicability_config"]["scope"]
    if ("price_type" in scope) == ("prices" in scope):
        message = "You must specify either `price_type` or `prices`."
        raise InvalidRequest(message, param="applicability_config[scope]")
    for i, each in enumerate(scope.get("prices", ())):
        data.need("price", each["id"], f"applicability_config[scope][prices][{i}][id]")
    if given.get("expires_at", data.clock.now() + 1) <= data.clock.now():
        raise InvalidRequest("`expires_at` must be in the future.", param="expires_at")
    return make_grant(data, given, customer)


def retrieve(call: Call) -> Json:
    return call.data.need(KIND, call.id)


def update(call: Call) -> Json:
    grant = call.data.need(KIND, call.id)
    values = changed_values(grant, call.params)
    updated = {"updated": call.data.clock.now()}
    return change(call.data, grant, "billing.credit_grant.updated", **values, **updated)


def list_(call: Call) -> Json:
    return page(call, KIND, PATH, by="customer")


def expire(call: Call) -> Json:
    return end(call, "credits_expired", expires_at=call.data.clock.now())


def void(call: Call) -> Json:
    grant = call.data.need(KIND, call.id)
    if left(call.data, grant) != amount_of(grant):
        raise InvalidRequest("You can't void a credit grant that has been used.")
    return end(call, "credits_voided", voided_at=call.data.clock.now())


def end(call: Call, reason: str, **values: int) -> Json:
    data, grant = call.data, call.data.need(KIND, call.id)
    if not is_effective(data, grant):
        raise InvalidRequest("This credit grant is not active.")
    if rest := left(data, grant):
        put_transaction(data, grant, "debit", rest, reason)
    changed = data.put({**grant, **values, "updated": data.clock.now()})
    emit(data, "billing.credit_grant.updated", changed)
    return changed


def summary(call: Call) -> Json:
    """The balance in each currency. The sandbox applies credits when an invoice is finalized, so
    the two balances are the same."""
    data, customer = call.data, call.params["customer"]
    data.need("customer", customer, "customer")
    wanted = call.params["filter"]
    totals: dict[str, int] = {}
    for grant in data.all(KIND).where("customer", customer):
        if wanted["type"] == "credit_grant" and grant["id"] != wanted.get("credit_grant"):
            continue
        if is_effective(data, grant):
            money = grant["amount"]["monetary"]["currency"]
            totals[money] = totals.get(money, 0) + left(data, grant)
    return {
        "object": "billing.credit_balance_summary",
        "balances": [balance(each, value) for each, value in totals.items()],
        "customer": customer,
        "customer_account": None,
        "livemode": data.livemode,
    }


def balance(money: str, value: int) -> Json:
    amount = {"type": "monetary", "monetary": {"currency": money, "value": value}}
    return {"available_balance": amount, "ledger_balance": amount}


def list_transactions(call: Call) -> Json:
    data, customer = call.data, call.params.get("customer")

    def keep(transaction: Json) -> bool:
        grant = data.need(KIND, transaction["credit_grant"])
        return customer is None or grant["customer"] == customer

    return page(call, TRANSACTIONS, "/v1/billing/credit_balance_transactions", keep, "credit_grant")


def retrieve_transaction(call: Call) -> Json:
    return call.data.need(TRANSACTIONS, call.id)


OPERATIONS = (
    Operation("POST", PATH, CREATE, create),
    Operation("GET", PATH, LIST, list_),
    Operation("GET", PATH + "/{id}", RETRIEVE, retrieve),
    Operation("POST", PATH + "/{id}", UPDATE, update),
    Operation("POST", PATH + "/{id}/expire", RETRIEVE, expire),
    Operation("POST", PATH + "/{id}/void", RETRIEVE, void),
    Operation("GET", "/v1/billing/credit_balance_summary", SUMMARY, summary),
    Operation(
        "GET", "/v1/billing/credit_balance_transactions", LIST_TRANSACTIONS, list_transactions
    ),
    Operation(
        "GET", "/v1/billing/credit_balance_transactions/{id}", RETRIEVE, retrieve_transaction
    ),
)
