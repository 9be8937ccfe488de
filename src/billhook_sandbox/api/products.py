"""Products."""

from billhook_sandbox.api.prices import DEFAULT_PRICE_DATA, check_amount
from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.catalog import make_price, make_product
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
    text,
    url,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import Json, deleted_object

FIELDS = {
    "active": boolean,
    "description": clearable(text),
    "images": array(url),
    "metadata": metadata,
    "shippable": boolean,
    "statement_descriptor": text,
    "tax_code": clearable(text),
    "unit_label": clearable(text),
    "url": clearable(url),
}
CREATE = Form(
    {
        **EXPAND,
        **FIELDS,
        "id": text,
        "name": text,
        "type": text,
        "default_price_data": DEFAULT_PRICE_DATA,
    },
    required=("name",),
)
UPDATE = Form({**EXPAND, **FIELDS, "name": text, "default_price": clearable(text)})
LIST = list_form(active=boolean, ids=array(text), shippable=boolean, type=text, url=text)


def create(call: Call) -> Json:
    data, given = call.data, call.params
    if data.get("product", given.get("id")):
        message = "Product already exists."
        raise InvalidRequest(message, code="resource_already_exists", param="id")
    default = given.get("default_price_data")
    if default is not None:
        check_amount(default, "default_price_data[unit_amount]")
    product = make_product(data, given)
    if default is not None:
        price = make_price(data, {**default, "product": product["id"]})
        product = change(data, product, "product.updated", default_price=price["id"])
    return product


def retrieve(call: Call) -> Json:
    return call.data.need("product", call.id)


def update(call: Call) -> Json:
    data, product = call.data, call.data.need("product", call.id)
    given = changed_values(product, call.params)
    if given.get("default_price"):
        data.need("price", given["default_price"], "default_price")
    if all(product[key] == value for key, value in given.items()):
        return product
    return change(data, product, "product.updated", **given, updated=data.clock.now())


def list_(call: Call) -> Json:
    ids = call.params.get("ids")
    matches = matching(call, "active", "shippable", "type", "url")

    def keep(product: Json) -> bool:
        return matches(product) and (ids is None or product["id"] in ids)

    return page(call, "product", "/v1/products", keep)


def delete(call: Call) -> Json:
    """Deletes a product without prices; it then responds with 404 (stripe-facts 23, 24)."""
    data = call.data
    product = data.need("product", call.id)
    if data.all("price").where("product", product["id"]):
        raise InvalidRequest(
            "This product cannot be deleted because it has one or more user-created prices."
        )
    data.remove("product", product["id"])
    emit(data, "product.deleted", {**product, "active": False, "updated": data.clock.now()})
    return deleted_object("product", product["id"])


OPERATIONS = (
    Operation("POST", "/v1/products", CREATE, create),
    Operation("GET", "/v1/products", LIST, list_),
    Operation("GET", "/v1/products/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/products/{id}", UPDATE, update),
    Operation("DELETE", "/v1/products/{id}", RETRIEVE, delete),
)
