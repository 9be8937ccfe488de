"""Prices. They can be archived, not deleted (stripe-facts 24)."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import change
from billhook_sandbox.objects.catalog import make_price, make_product
from billhook_sandbox.pagination import matching, page
from billhook_sandbox.params import (
    EXPAND,
    RETRIEVE,
    Form,
    ParamType,
    array,
    at_least,
    boolean,
    changed_values,
    clearable,
    currency,
    decimal,
    list_form,
    metadata,
    one_of,
    text,
)
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json

INTERVALS = one_of("day", "week", "month", "year")
TAX_BEHAVIOR = one_of("exclusive", "inclusive", "unspecified")
RECURRING = Form(
    {
        "interval": INTERVALS,
        "interval_count": at_least(1),
        "meter": text,
        "usage_type": one_of("licensed", "metered"),
        "trial_period_days": at_least(0),
    },
    required=("interval",),
)
AMOUNT: dict[str, ParamType] = {
    "currency": currency,
    "recurring": RECURRING,
    "tax_behavior": TAX_BEHAVIOR,
    "unit_amount": at_least(0),
    "unit_amount_decimal": decimal,
    "metadata": metadata,
}
TIER = Form(
    {
        "flat_amount": at_least(0),
        "flat_amount_decimal": decimal,
        "unit_amount": at_least(0),
        "unit_amount_decimal": decimal,
        "up_to": lambda raw, param: raw if raw == "inf" else at_least(1)(raw, param),
    },
    required=("up_to",),
)
TRANSFORM = Form(
    {"divide_by": at_least(1), "round": one_of("down", "up")}, required=("divide_by", "round")
)
DEFAULT_PRICE_DATA = Form(AMOUNT, required=("currency",))
PRODUCT_DATA = Form(
    {
        "id": text,
        "active": boolean,
        "name": text,
        "metadata": metadata,
        "statement_descriptor": text,
        "tax_code": text,
        "unit_label": text,
    },
    required=("name",),
)
CREATE = Form(
    {
        **EXPAND,
        **AMOUNT,
        "active": boolean,
        "billing_scheme": one_of("per_unit", "tiered"),
        "lookup_key": text,
        "nickname": text,
        "product": text,
        "product_data": PRODUCT_DATA,
        "tiers": array(TIER),
        "tiers_mode": one_of("graduated", "volume"),
        "transfer_lookup_key": boolean,
        "transform_quantity": TRANSFORM,
    },
    required=("currency",),
)
UPDATE = Form(
    {
        **EXPAND,
        "active": boolean,
        "lookup_key": clearable(text),
        "metadata": metadata,
        "nickname": clearable(text),
        "tax_behavior": TAX_BEHAVIOR,
        "transfer_lookup_key": boolean,
    }
)
LIST = list_form(
    active=boolean,
    currency=currency,
    lookup_keys=array(text),
    product=text,
    recurring=Form({"interval": INTERVALS, "usage_type": text, "meter": text}),
    type=one_of("one_time", "recurring"),
)


def create(call: Call) -> Json:
    data, given = call.data, dict(call.params)
    if ("product" in given) == ("product_data" in given):
        message = "You must specify either `product` or `product_data` when creating a price."
        raise InvalidRequest(message, code="parameter_missing", param="product")
    if "product" in given:
        data.need("product", given["product"], "product")
    if given.get("billing_scheme") == "tiered":
        check_tiers(given)
    else:
        check_amount(given, "unit_amount")
    check_meter(data, given)
    claim_lookup_key(data, given)
    if "product_data" in given:
        given["product"] = make_product(data, given["product_data"])["id"]
    return make_price(data, given)


def check_amount(given: Json, param: str) -> None:
    if "unit_amount" not in given and "unit_amount_decimal" not in given:
        message = "Prices require an `unit_amount` or `unit_amount_decimal` parameter to be set."
        raise InvalidRequest(message, code="parameter_missing", param=param)


def check_tiers(given: Json) -> None:
    for param in ("tiers", "tiers_mode"):
        if not given.get(param):
            message = f"You must specify `{param}` when `billing_scheme=tiered`."
            raise InvalidRequest(message, code="parameter_missing", param=param)
    bounds = [tier["up_to"] for tier in given["tiers"]]
    if bounds[-1] != "inf" or "inf" in bounds[:-1] or bounds[:-1] != sorted(set(bounds[:-1])):
        raise InvalidRequest(
            "The `up_to` values of `tiers` must ascend, and the last one must be `inf`.",
            param="tiers",
        )
    if "transform_quantity" in given:
        message = "`transform_quantity` cannot be combined with `tiers`."
        raise InvalidRequest(message, param="transform_quantity")


def check_meter(data: DataSet, given: Json) -> None:
    """Since 2025-03-31.basil, a metered price has a meter: usage records were removed."""
    recurring = given.get("recurring") or {}
    metered, param = recurring.get("usage_type") == "metered", "recurring[meter]"
    if "meter" not in recurring:
        if metered:
            raise InvalidRequest(
                "Starting with Stripe version 2025-03-31.basil, prices with metered usage must be "
                "backed by meters. Create a meter and pass its ID as `recurring[meter]`.",
                code="parameter_missing",
                param=param,
            )
        return
    meter = data.need("billing.meter", recurring["meter"], param)
    if not metered:
        message = "You can only specify a meter for prices with `usage_type` set to `metered`."
        raise InvalidRequest(message, param=param)
    if meter["status"] != "active":
        raise InvalidRequest(f"The meter {meter['id']} is inactive.", param=param)


def claim_lookup_key(data: DataSet, given: Json, owner: str | None = None) -> None:
    """A lookup key belongs to one price; `transfer_lookup_key` moves it."""
    key = given.get("lookup_key")
    for other in data.all("price").where("lookup_key", key) if key else ():
        if other["id"] == owner:
            continue
        if not given.get("transfer_lookup_key"):
            raise InvalidRequest(
                f"A price (`{other['id']}`) already uses that lookup key (`{key}`).",
                code="resource_already_exists",
                param="lookup_key",
            )
        change(data, other, "price.updated", lookup_key=None)


def retrieve(call: Call) -> Json:
    return call.data.need("price", call.id)


def update(call: Call) -> Json:
    data, price = call.data, call.data.need("price", call.id)
    values = changed_values(price, call.params, "transfer_lookup_key")
    claim_lookup_key(data, call.params, owner=price["id"])
    return change(data, price, "price.updated", **values)


def list_(call: Call) -> Json:
    """Without `active`, only active prices are listed, as documented (stripe-facts 24)."""
    filters = call.params
    matches = matching(call, "currency", "type")
    keys, recurring = filters.get("lookup_keys"), filters.get("recurring", {})

    def keep(price: Json) -> bool:
        return (
            price["active"] == filters.get("active", True)
            and (keys is None or price["lookup_key"] in keys)
            and all((price["recurring"] or {}).get(key) == recurring[key] for key in recurring)
            and matches(price)
        )

    return page(call, "price", "/v1/prices", keep, by="product")


OPERATIONS = (
    Operation("POST", "/v1/prices", CREATE, create),
    Operation("GET", "/v1/prices", LIST, list_),
    Operation("GET", "/v1/prices/{id}", RETRIEVE, retrieve),
    Operation("POST", "/v1/prices/{id}", UPDATE, update),
)
