"""Deleting a customer takes its subscriptions along (stripe-facts 23)."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.flows.subscription_cancellation import ENDED, cancel_now
from billhook_sandbox.objects.payment_methods import detach
from billhook_sandbox.store import DataSet, Json


def deleted_customer(name: str) -> Json:
    return {"id": name, "object": "customer", "deleted": True}


def delete_customer(data: DataSet, customer: Json) -> Json:
    name = customer["id"]
    for subscription in data.all("subscription").where("customer", name):
        if subscription["status"] not in ENDED:
            cancel_now(data, subscription)
    data.remove("customer", name)
    data.put({"id": name, "object": "_deleted_customer"})
    # The full customer, without a `deleted` key: that is how the event really looks.
    emit(data, "customer.deleted", customer)
    for method in data.all("payment_method").where("customer", name):
        detach(data, method)
    return deleted_customer(name)
