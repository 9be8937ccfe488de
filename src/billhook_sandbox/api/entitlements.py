"""Features, the features of products, and the active entitlements of customers."""

from billhook_sandbox.errors import InvalidRequest, resource_missing
from billhook_sandbox.event_log import change
from billhook_sandbox.objects.entitlement import (
    attach_feature,
    attached_features,
    detach_feature,
    entitlements_of,
    make_feature,
)
from billhook_sandbox.pagination import page, page_of_items
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    boolean,
    changed_values,
    list_form,
    merge_metadata,
    metadata,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json, deleted_object

LONGEST_KEY = 80
CREATE = Form(
    {**EXPAND, "lookup_key": text, "metadata": metadata, "name": text},
    required=("lookup_key", "name"),
)
UPDATE = Form({**EXPAND, "active": boolean, "metadata": metadata, "name": text})
LIST = list_form(by_created=False, archived=boolean, lookup_key=text)
ATTACH = Form({**EXPAND, "entitlement_feature": text}, required=("entitlement_feature",))
LIST_ENTITLEMENTS = Form(list_form(by_created=False, customer=text).types, required=("customer",))
FEATURES = "/v1/entitlements/features"
OF_PRODUCT = "/v1/products/{product}/features"
ENTITLEMENTS = "/v1/entitlements/active_entitlements"


def create(call: Call) -> Json:
    key = call.params["lookup_key"]
    if len(key) > LONGEST_KEY:
        message = f"Invalid string: must be at most {LONGEST_KEY} characters"
        raise InvalidRequest(message, param="lookup_key")
    if call.data.all("entitlements.feature").where("lookup_key", key):
        message = f"A feature already exists with lookup_key `{key}`."
        raise InvalidRequest(message, code="resource_already_exists", param="lookup_key")
    given = {**call.params, "metadata": merge_metadata({}, call.params.get("metadata"))}
    return make_feature(call.data, given)


def retrieve(call: Call) -> Json:
    return call.data.need("entitlements.feature", call.id)


def update(call: Call) -> Json:
    """Stripe sends no event about a feature."""
    feature = retrieve(call)
    return change(call.data, feature, None, **changed_values(feature, call.params))


def list_(call: Call) -> Json:
    """Without `archived`, only active features."""
    key, archived = call.params.get("lookup_key"), call.params.get("archived", False)

    def keep(feature: Json) -> bool:
        return feature["active"] is not archived and key in (None, feature["lookup_key"])

    return page(call, "entitlements.feature", FEATURES, keep)


def attach(call: Call) -> Json:
    product = call.data.need("product", call.path["product"])
    feature_id = call.params["entitlement_feature"]
    feature = call.data.need("entitlements.feature", feature_id, "entitlement_feature")
    if not feature["active"]:
        message = "Inactive features cannot be attached to products."
        raise InvalidRequest(message, param="entitlement_feature")
    attached = attached_features(call.data, product["id"])
    if any(each["entitlement_feature"]["id"] == feature_id for each in attached):
        message = f"The feature {feature_id} is already attached to the product."
        raise InvalidRequest(message, code="resource_already_exists", param="entitlement_feature")
    return attach_feature(call.data, product["id"], feature)


def list_attached(call: Call) -> Json:
    product = call.data.need("product", call.path["product"])["id"]
    return page_of_items(
        attached_features(call.data, product), call, OF_PRODUCT.format(product=product)
    )


def retrieve_attached(call: Call) -> Json:
    product = call.data.need("product", call.path["product"])["id"]
    for each in attached_features(call.data, product):
        if each["id"] == call.id:
            return each
    raise resource_missing("product_feature", call.id, "id", 404)


def detach(call: Call) -> Json:
    attached = retrieve_attached(call)
    detach_feature(call.data, call.path["product"], attached["id"])
    return deleted_object("product_feature", attached["id"])


def list_entitlements(call: Call) -> Json:
    customer = call.params["customer"]
    if call.data.get("_deleted_customer", customer) is None:
        call.data.need("customer", customer, "customer")
    return page_of_items(entitlements_of(call.data, customer), call, ENTITLEMENTS)


def retrieve_entitlement(call: Call) -> Json:
    return call.data.need("entitlements.active_entitlement", call.id)


OPERATIONS = (
    Operation("POST", FEATURES, CREATE, create),
    Operation("GET", FEATURES, LIST, list_),
    Operation("GET", FEATURES + "/{id}", RETRIEVE, retrieve),
    Operation("POST", FEATURES + "/{id}", UPDATE, update),
    Operation("POST", OF_PRODUCT, ATTACH, attach),
    Operation("GET", OF_PRODUCT, list_form(by_created=False), list_attached),
    Operation("GET", OF_PRODUCT + "/{id}", RETRIEVE, retrieve_attached),
    Operation("DELETE", OF_PRODUCT + "/{id}", RETRIEVE, detach),
    Operation("GET", ENTITLEMENTS, LIST_ENTITLEMENTS, list_entitlements),
    Operation("GET", ENTITLEMENTS + "/{id}", RETRIEVE, retrieve_entitlement),
)
