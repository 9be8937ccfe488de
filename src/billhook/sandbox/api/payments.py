"""Reading what was paid: payment intents, charges, balance transactions."""

from billhook.sandbox.lists import page
from billhook.sandbox.params import RETRIEVE, list_form, text
from billhook.sandbox.routing import Call, Operation
from billhook.sandbox.store import Json

INTENTS = list_form(customer=text)
CHARGES = list_form(customer=text, payment_intent=text)
TRANSACTIONS = list_form(source=text, type=text, currency=text)


def payment_intent(call: Call) -> Json:
    return call.data.need("payment_intent", call.id)


def payment_intents(call: Call) -> Json:
    return page(call, "payment_intent", "/v1/payment_intents", by="customer")


def charge(call: Call) -> Json:
    return call.data.need("charge", call.id)


def charges(call: Call) -> Json:
    customer = call.params.get("customer")

    def keep(obj: Json) -> bool:
        return customer is None or obj["customer"] == customer

    by = "payment_intent" if "payment_intent" in call.params else "customer"
    return page(call, "charge", "/v1/charges", keep, by=by)


def balance_transaction(call: Call) -> Json:
    return call.data.need("balance_transaction", call.id)


def balance_transactions(call: Call) -> Json:
    wanted = {k: call.params[k] for k in ("type", "currency") if k in call.params}

    def keep(obj: Json) -> bool:
        return all(obj[key] == value for key, value in wanted.items())

    return page(call, "balance_transaction", "/v1/balance_transactions", keep, by="source")


OPERATIONS = (
    Operation("GET", "/v1/payment_intents", INTENTS, payment_intents),
    Operation("GET", "/v1/payment_intents/{id}", RETRIEVE, payment_intent),
    Operation("GET", "/v1/charges", CHARGES, charges),
    Operation("GET", "/v1/charges/{id}", RETRIEVE, charge),
    Operation("GET", "/v1/balance_transactions", TRANSACTIONS, balance_transactions),
    Operation("GET", "/v1/balance_transactions/{id}", RETRIEVE, balance_transaction),
)
