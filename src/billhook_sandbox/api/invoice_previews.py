"""Previews of invoices that do not exist yet."""

from billhook_sandbox.api.subscriptions import ITEM, PRORATION
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.invoice_preview import preview
from billhook_sandbox.params import EXPAND, Form, array, integer, one_of, text
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

DETAILS = Form({"items": array(ITEM), "proration_behavior": PRORATION, "proration_date": integer})
CREATE = Form(
    {
        **EXPAND,
        "customer": text,
        "preview_mode": one_of("next", "recurring"),
        "subscription": text,
        "subscription_details": DETAILS,
    },
    required=("subscription",),
)


def create(call: Call) -> Json:
    data, given = call.data, call.params
    subscription = data.need("subscription", given["subscription"], "subscription")
    if given.get("customer", subscription["customer"]) != subscription["customer"]:
        raise InvalidRequest(
            f"The customer {given['customer']} does not have a subscription with the ID "
            f"{subscription['id']}.",
            code="resource_missing",
            param="subscription",
        )
    details = given.get("subscription_details", {})
    if "proration_date" in details and details.get("proration_behavior") == "none":
        raise InvalidRequest(
            "You cannot pass `subscription_details[proration_date]` when "
            "`subscription_details[proration_behavior]` is `none`.",
            param="subscription_details[proration_date]",
        )
    return preview(data, subscription, details, given.get("preview_mode", "next"))


OPERATIONS = (Operation("POST", "/v1/invoices/create_preview", CREATE, create),)
