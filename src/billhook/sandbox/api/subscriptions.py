"""Subscriptions: read, change, cancel."""

from billhook.sandbox.errors import InvalidRequest, resource_missing
from billhook.sandbox.events import change
from billhook.sandbox.flows.cancelling import ENDED, at_period_end, cancel_now
from billhook.sandbox.lists import page, slice_of
from billhook.sandbox.objects.catalog import as_plan
from billhook.sandbox.objects.subscriptions import items_of, make_item, period_of, with_items
from billhook.sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    at_least,
    boolean,
    clearable,
    list_form,
    merge_metadata,
    metadata,
    one_of,
    text,
)
from billhook.sandbox.routing import Call, Operation
from billhook.sandbox.store import DataSet, Json

FEEDBACK = one_of(
    "customer_service",
    "low_quality",
    "missing_features",
    "other",
    "switched_service",
    "too_complex",
    "too_expensive",
    "unused",
)
DETAILS = Form({"comment": clearable(text), "feedback": clearable(FEEDBACK)})
ITEM = Form(
    {
        "deleted": boolean,
        "id": text,
        "metadata": metadata,
        "price": text,
        "quantity": at_least(0),
    }
)
UPDATE = Form(
    {
        **EXPAND,
        "cancel_at_period_end": boolean,
        "cancellation_details": DETAILS,
        "default_payment_method": text,
        "description": clearable(text),
        "items": array(ITEM),
        "metadata": metadata,
        "proration_behavior": one_of("always_invoice", "create_prorations", "none"),
    }
)
CANCEL = Form(
    {
        **EXPAND,
        "cancellation_details": DETAILS,
        "invoice_now": boolean,
        "prorate": boolean,
    }
)
STATUSES = (
    "active",
    "all",
    "canceled",
    "ended",
    "incomplete",
    "incomplete_expired",
    "past_due",
    "paused",
    "trialing",
    "unpaid",
)
LIST = list_form(collection_method=text, customer=text, price=text, status=one_of(*STATUSES))
MOST_ITEMS = 20


def retrieve(call: Call) -> Json:
    return call.data.need("subscription", call.id)


def list_(call: Call) -> Json:
    """Without a status, ended ones are left out (stripe-facts 22)."""
    status, price = call.params.get("status"), call.params.get("price")

    def keep(subscription: Json) -> bool:
        found = subscription["status"]
        fits = {
            None: found != "canceled",
            "all": True,
            "ended": found in ENDED,
        }.get(status, found == status)
        return fits and (price is None or has_price(call.data, subscription, price))

    return page(call, "subscription", "/v1/subscriptions", keep, by="customer")


def has_price(data: DataSet, subscription: Json, price: str) -> bool:
    return any(item["price"]["id"] == price for item in items_of(data, subscription["id"]))


def update(call: Call) -> Json:
    data, given = call.data, call.params
    subscription = data.need("subscription", call.id)
    if subscription["status"] in ENDED and given.keys() - {
        "cancellation_details",
        "expand",
        "metadata",
    }:
        raise InvalidRequest(
            "A canceled subscription can only update its cancellation_details and metadata.",
        )
    values: Json = {k: given[k] for k in ("description",) if k in given}
    if "default_payment_method" in given:
        method = data.need(
            "payment_method", given["default_payment_method"], "default_payment_method"
        )
        values["default_payment_method"] = method["id"]
    if "metadata" in given:
        values["metadata"] = merge_metadata(subscription["metadata"], given["metadata"])
    if "items" in given:
        values |= with_items(data, subscription, changed_items(data, subscription, given["items"]))
    if "cancel_at_period_end" in given:
        values |= at_period_end(data, subscription, given["cancel_at_period_end"])
    if "cancellation_details" in given:
        before = values.get("cancellation_details") or subscription["cancellation_details"]
        values["cancellation_details"] = {**before, **given["cancellation_details"]}
    return change(data, subscription, "customer.subscription.updated", **values)


def changed_items(data: DataSet, subscription: Json, given: list[Json]) -> list[Json]:
    """All items as they will be; only what was named changes. Nothing is prorated."""
    items = {item["id"]: item for item in items_of(data, subscription["id"])}
    start, end = period_of(list(items.values()))
    for i, wanted in enumerate(given):
        price = None
        if "price" in wanted:
            price = data.need("price", wanted["price"], f"items[{i}][price]")
            if price["recurring"] is None:
                message = "The price specified is set to `type=one_time` but this field only "
                raise InvalidRequest(
                    message + "accepts prices with `type=recurring`.", param=f"items[{i}][price]"
                )
        if "id" in wanted:
            if wanted["id"] not in items:
                raise resource_missing("subscription_item", wanted["id"], f"items[{i}][id]", 400)
            items[wanted["id"]] = changed_item(items[wanted["id"]], wanted, price)
        elif price is None:
            param = f"items[{i}][price]"
            message = f"Missing required param: {param}."
            raise InvalidRequest(message, code="parameter_missing", param=param)
        else:
            quantity = wanted.get("quantity", 1)
            item = make_item(data, subscription["id"], price, quantity, start, end)
            items[item["id"]] = item
    gone = [wanted["id"] for wanted in given if wanted.get("deleted") and "id" in wanted]
    left = [item for item in items.values() if item["id"] not in gone]
    if not 1 <= len(left) <= MOST_ITEMS:
        message = f"A subscription must have between 1 and {MOST_ITEMS} items."
        raise InvalidRequest(message, param="items")
    for name in gone:
        data.remove("subscription_item", name)
    return left


def changed_item(item: Json, wanted: Json, price: Json | None) -> Json:
    price = price or item["price"]
    return {
        **item,
        "metadata": merge_metadata(item["metadata"], wanted.get("metadata", {})),
        "plan": as_plan(price),
        "price": price,
        "quantity": wanted.get("quantity", item["quantity"]),
    }


def cancel(call: Call) -> Json:
    """A second one finds nothing (stripe-facts 22)."""
    subscription = call.data.need("subscription", call.id)
    if subscription["status"] in ENDED:
        raise resource_missing("subscription", call.id, "id", 404)
    return cancel_now(call.data, subscription, call.params.get("cancellation_details"))


def items(call: Call) -> Json:
    name = call.params["subscription"]
    call.data.need("subscription", name, "subscription")
    url = f"/v1/subscription_items?subscription={name}"
    return slice_of(items_of(call.data, name), call, url)


def item(call: Call) -> Json:
    return call.data.need("subscription_item", call.id)


ITEMS = Form(list_form(subscription=text).kinds, required=("subscription",))
OPERATIONS = (
    Operation("GET", "/v1/subscriptions", LIST, list_),
    Operation("GET", "/v1/subscriptions/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/subscriptions/{id}", UPDATE, update),
    Operation("DELETE", "/v1/subscriptions/{id}", CANCEL, cancel),
    Operation("GET", "/v1/subscription_items", ITEMS, items),
    Operation("GET", "/v1/subscription_items/{id}", RETRIEVE, item),
)
