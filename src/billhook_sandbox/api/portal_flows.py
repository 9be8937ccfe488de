"""Deep links into the customer portal: `flow_data` of a portal session, and its rules."""

from billhook_sandbox.api.subscription_discounts import check_discount, order_of
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.subscription_cancellation import ENDED
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.params import Form, array, at_least, one_of, text, url
from billhook_sandbox.store import DataSet, Json

DISCOUNT = Form({"coupon": text, "promotion_code": text})
ITEM = Form({"id": text, "price": text, "quantity": at_least(0)}, required=("id",))
COMPLETION = Form(
    {
        "hosted_confirmation": Form({"custom_message": text}),
        "redirect": Form({"return_url": url}, required=("return_url",)),
        "type": one_of("hosted_confirmation", "portal_homepage", "redirect"),
    },
    required=("type",),
)
SUBSCRIPTION = Form({"subscription": text}, required=("subscription",))
CONFIRM = Form(
    {"discounts": array(DISCOUNT), "items": array(ITEM), "subscription": text},
    required=("items", "subscription"),
)
FLOW = Form(
    {
        "after_completion": COMPLETION,
        "subscription_cancel": SUBSCRIPTION,
        "subscription_update": SUBSCRIPTION,
        "subscription_update_confirm": CONFIRM,
        "type": one_of(
            "payment_method_update",
            "subscription_cancel",
            "subscription_update",
            "subscription_update_confirm",
        ),
    },
    required=("type",),
)
FEATURES = {
    "payment_method_update": "payment_method_update",
    "subscription_cancel": "subscription_cancel",
    "subscription_update": "subscription_update",
    "subscription_update_confirm": "subscription_update",
}
"""The feature of the configuration that each type of flow needs."""


def check_flow(data: DataSet, customer: str, configuration: Json, flow: Json) -> None:
    """Raises InvalidRequest for a flow that the customer could not complete."""
    type_ = flow["type"]
    feature = FEATURES[type_]
    if not configuration["features"][feature]["enabled"]:
        raise InvalidRequest(
            f"This session's configuration does not allow `flow_data[type]={type_}`, because the "
            f"`{feature}` feature in the portal configuration is disabled.",
            param="flow_data[type]",
        )
    for other in FEATURES:
        if other in flow and other != type_:
            message = f"You can only pass `flow_data[{other}]` if `flow_data[type]` is `{other}`."
            raise InvalidRequest(message, param=f"flow_data[{other}]")
    check_completion(flow.get("after_completion", {"type": "portal_homepage"}))
    if type_ == "payment_method_update":
        return
    if type_ not in flow:
        param = f"flow_data[{type_}]"
        message = f"Missing required param: {param}."
        raise InvalidRequest(message, code="parameter_missing", param=param)
    check_subscription(data, customer, type_, flow[type_])


def check_completion(completion: Json) -> None:
    if completion["type"] == "redirect" and "redirect" not in completion:
        param = "flow_data[after_completion][redirect]"
        message = f"Missing required param: {param}."
        raise InvalidRequest(message, code="parameter_missing", param=param)


def check_subscription(data: DataSet, customer: str, type_: str, given: Json) -> None:
    param = f"flow_data[{type_}][subscription]"
    subscription = data.need("subscription", given["subscription"], param)
    if subscription["customer"] != customer:
        message = f"The subscription {subscription['id']} belongs to another customer."
        raise InvalidRequest(message, param=param)
    if subscription["status"] in ENDED:
        message = f"The subscription {subscription['id']} is {subscription['status']}."
        raise InvalidRequest(message, param=param)
    if type_ == "subscription_cancel" and subscription["cancel_at"] is not None:
        message = f"The subscription {subscription['id']} is already set to be canceled."
        raise InvalidRequest(message, param=param)
    if type_ == "subscription_update_confirm":
        check_confirmation(data, subscription, given)


def check_confirmation(data: DataSet, subscription: Json, given: Json) -> None:
    param = "flow_data[subscription_update_confirm]"
    if len(given["items"]) != 1:
        message = "You must pass exactly one item to update."
        raise InvalidRequest(message, param=f"{param}[items]")
    wanted, items = given["items"][0], items_of(data, subscription["id"])
    current = next((item for item in items if item["id"] == wanted["id"]), None)
    if current is None:
        message = f"No such subscription item: '{wanted['id']}'"
        raise InvalidRequest(message, code="resource_missing", param=f"{param}[items][0][id]")
    if "price" in wanted:
        data.need("price", wanted["price"], f"{param}[items][0][price]")
    same_price = wanted.get("price", current["price"]["id"]) == current["price"]["id"]
    if same_price and wanted.get("quantity", current.get("quantity")) == current.get("quantity"):
        message = "The subscription already has this price and quantity."
        raise InvalidRequest(message, param=f"{param}[items]")
    order = order_of(data, subscription)
    for i, discount in enumerate(given.get("discounts", [])):
        check_discount(data, discount, order, [], f"{param}[discounts][{i}]")
