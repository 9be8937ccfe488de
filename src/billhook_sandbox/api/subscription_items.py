"""Subscription items. Changing an item changes its subscription."""

from billhook_sandbox.api.subscriptions import PAYMENT_BEHAVIOR, PRORATION, check_pending
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.subscription_cancellation import ENDED
from billhook_sandbox.flows.subscription_changes import change_items
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.pagination import page_of_items
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    at_least,
    boolean,
    integer,
    list_form,
    metadata,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json, deleted_object

UPDATE = Form(
    {
        **EXPAND,
        "metadata": metadata,
        "payment_behavior": PAYMENT_BEHAVIOR,
        "price": text,
        "proration_behavior": PRORATION,
        "proration_date": integer,
        "quantity": at_least(0),
    }
)
CREATE = Form({**UPDATE.types, "subscription": text}, required=("subscription",))
DELETE = Form(
    {
        **EXPAND,
        "clear_usage": boolean,
        "payment_behavior": PAYMENT_BEHAVIOR,
        "proration_behavior": PRORATION,
        "proration_date": integer,
    }
)
LIST = Form(list_form(subscription=text).types, required=("subscription",))
ITEM_KEYS = ("metadata", "price", "quantity")


def change_item(call: Call, subscription: str, wanted: Json) -> Json:
    found = call.data.need("subscription", subscription, "subscription")
    if found["status"] in ENDED:
        raise InvalidRequest(f"The subscription is {found['status']} and can't be changed.")
    if call.params.get("payment_behavior") == "pending_if_incomplete":
        check_pending(found, {})
    return change_items(call.data, found, [wanted], call.params, {})


def create(call: Call) -> Json:
    subscription = call.params["subscription"]
    wanted = {k: call.params[k] for k in ITEM_KEYS if k in call.params}
    before = {item["id"] for item in items_of(call.data, subscription)}
    pending = change_item(call, subscription, wanted)["pending_update"] or {}
    after = [*items_of(call.data, subscription), *pending.get("subscription_items", ())]
    return next(item for item in after if item["id"] not in before)


def update(call: Call) -> Json:
    item = call.data.need("subscription_item", call.id)
    wanted = {k: call.params[k] for k in ITEM_KEYS if k in call.params}
    change_item(call, item["subscription"], {**wanted, "id": item["id"]})
    return call.data.need("subscription_item", call.id)


def delete(call: Call) -> Json:
    item = call.data.need("subscription_item", call.id)
    wanted = {"id": item["id"], "deleted": True}
    if "clear_usage" in call.params:
        wanted["clear_usage"] = call.params["clear_usage"]
    change_item(call, item["subscription"], wanted)
    return deleted_object("subscription_item", item["id"])


def list_(call: Call) -> Json:
    subscription = call.params["subscription"]
    call.data.need("subscription", subscription, "subscription")
    url = f"/v1/subscription_items?subscription={subscription}"
    return page_of_items(items_of(call.data, subscription), call, url)


def retrieve(call: Call) -> Json:
    return call.data.need("subscription_item", call.id)


OPERATIONS = (
    Operation("POST", "/v1/subscription_items", CREATE, create),
    Operation("GET", "/v1/subscription_items", LIST, list_),
    Operation("GET", "/v1/subscription_items/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/subscription_items/{id}", UPDATE, update),
    Operation("DELETE", "/v1/subscription_items/{id}", DELETE, delete),
)
