"""Deletes a customer and cancels its subscriptions (stripe-facts 23)."""

from billhook_sandbox.event_log import emit
from billhook_sandbox.flows.subscription_cancellation import ENDED, cancel_now
from billhook_sandbox.objects.payment_method import detach_method
from billhook_sandbox.store import DataSet, Json, deleted_object


def delete_customer(data: DataSet, customer: Json) -> Json:
    customer_id = customer["id"]
    for subscription in data.all("subscription").where("customer", customer_id):
        if subscription["status"] not in ENDED:
            cancel_now(data, subscription)
    data.remove("customer", customer_id)
    data.put({"id": customer_id, "object": "_deleted_customer"})
    # As at Stripe, the event has the full customer, without a `deleted` field.
    emit(data, "customer.deleted", customer)
    for method in data.all("payment_method").where("customer", customer_id):
        detach_method(data, method)
    return deleted_object("customer", customer_id)
