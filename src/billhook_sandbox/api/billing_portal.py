"""The customer portal: sessions and configurations."""

from billhook_sandbox.api.portal_flows import FLOW, check_flow
from billhook_sandbox.objects.customer_portal import (
    default_configuration,
    make_configuration,
    make_portal_session,
    update_configuration,
)
from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    array,
    boolean,
    changed_values,
    clearable,
    list_form,
    metadata,
    one_of,
    text,
    url,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json

SESSION = Form(
    {
        **EXPAND,
        "configuration": text,
        "customer": text,
        "flow_data": FLOW,
        "locale": text,
        "return_url": url,
    },
    required=("customer",),
)
SWITCH = Form({"enabled": boolean})
FEATURES = Form(
    {
        "customer_update": Form({"enabled": boolean, "allowed_updates": array(text)}),
        "invoice_history": SWITCH,
        "payment_method_update": SWITCH,
        "subscription_cancel": Form(
            {"enabled": boolean, "mode": one_of("at_period_end", "immediately")}
        ),
        "subscription_update": Form(
            {
                "default_allowed_updates": array(one_of("price", "promotion_code", "quantity")),
                "enabled": boolean,
                "products": array(Form({"prices": array(text), "product": text})),
                "proration_behavior": one_of("always_invoice", "create_prorations", "none"),
            }
        ),
    }
)
CONFIGURATION = Form(
    {
        **EXPAND,
        "business_profile": Form(
            {
                "headline": clearable(text),
                "privacy_policy_url": url,
                "terms_of_service_url": url,
            }
        ),
        "default_return_url": clearable(url),
        "features": FEATURES,
        "metadata": metadata,
        "name": clearable(text),
    },
    required=("features",),
)
UPDATE = Form({**CONFIGURATION.types, "active": boolean})
LIST = list_form(active=boolean, is_default=boolean)


def create_session(call: Call) -> Json:
    data, given = call.data, call.params
    customer = data.need("customer", given["customer"], "customer")
    if "configuration" in given:
        kind = "billing_portal.configuration"
        configuration = data.need(kind, given["configuration"], "configuration")
    else:
        configuration = default_configuration(data)
    if "flow_data" in given:
        check_flow(data, customer["id"], configuration, given["flow_data"])
    return make_portal_session(data, customer["id"], configuration, given, call.base_url)


def create_configuration(call: Call) -> Json:
    return make_configuration(call.data, call.params)


def change_configuration(call: Call) -> Json:
    found = call.data.need("billing_portal.configuration", call.id)
    return update_configuration(call.data, found, changed_values(found, call.params))


def retrieve_configuration(call: Call) -> Json:
    return call.data.need("billing_portal.configuration", call.id)


def list_configurations(call: Call) -> Json:
    keep = matching(call, "active", "is_default")
    kind, path = "billing_portal.configuration", "/v1/billing_portal/configurations"
    return page(call, kind, path, keep)


OPERATIONS = (
    Operation("POST", "/v1/billing_portal/sessions", SESSION, create_session),
    Operation("POST", "/v1/billing_portal/configurations", CONFIGURATION, create_configuration),
    Operation("GET", "/v1/billing_portal/configurations", LIST, list_configurations),
    Operation("GET", "/v1/billing_portal/configurations/{id}", RETRIEVE, retrieve_configuration),
    Operation("POST", "/v1/billing_portal/configurations/{id}", UPDATE, change_configuration),
)
