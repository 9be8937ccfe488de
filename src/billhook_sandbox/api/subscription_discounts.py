"""`discounts` of subscriptions: coupons, promotion codes, and discounts that they already have."""

from typing import NamedTuple

from billhook_sandbox.errors import InvalidRequest, resource_missing
from billhook_sandbox.event_log import emit
from billhook_sandbox.flows.subscription_discounts import (
    Coupon,
    add_discounts,
    redeem_discount,
    remove_discounts,
)
from billhook_sandbox.objects.catalog import advance_amount
from billhook_sandbox.objects.coupon import usable_coupon, usable_promotion_code
from billhook_sandbox.objects.subscription import items_of
from billhook_sandbox.params import EXPAND, Form, array, clearable, text
from billhook_sandbox.routing import Call, Operation
from billhook_sandbox.store import DataSet, Json

DISCOUNT = Form({"coupon": text, "discount": text, "promotion_code": text})
DISCOUNTS = clearable(array(DISCOUNT))
MAX_DISCOUNTS = 20


class Order(NamedTuple):
    """What a promotion code is for: its restrictions depend on it."""

    customer: str
    currency: str
    total: int


def order_of(data: DataSet, subscription: Json) -> Order:
    items = items_of(data, subscription["id"])
    total = sum(advance_amount(data, item) for item in items)
    return Order(subscription["customer"], subscription["currency"], total)


def check_discounts(
    data: DataSet, given: list[Json], order: Order, existing: list[str]
) -> list[str | Coupon]:
    """For each given discount: the id of an existing one, or the coupon of a new one."""
    if len(given) > MAX_DISCOUNTS:
        message = f"You can pass at most {MAX_DISCOUNTS} discounts."
        raise InvalidRequest(message, param="discounts")
    return [
        check_discount(data, each, order, existing, f"discounts[{i}]")
        for i, each in enumerate(given)
    ]


def check_discount(
    data: DataSet, given: Json, order: Order, existing: list[str], param: str
) -> str | Coupon:
    if len(given) != 1:
        message = f"You must specify one of `{param}[coupon]`, `{param}[discount]` or "
        raise InvalidRequest(message + f"`{param}[promotion_code]`.", param=param)
    if "discount" in given:
        if given["discount"] not in existing:
            raise resource_missing("discount", given["discount"], f"{param}[discount]", 400)
        return str(given["discount"])
    if "coupon" in given:
        usable_coupon(data, given["coupon"], order.currency, f"{param}[coupon]")
        return given["coupon"], None
    param = f"{param}[promotion_code]"
    code = data.need("promotion_code", given["promotion_code"], param)
    usable_promotion_code(data, code, order.customer, order.total, order.currency, param)
    coupon = usable_coupon(data, code["promotion"]["coupon"], order.currency, param)
    return coupon["id"], code["id"]


def new_coupons(data: DataSet, given: list[Json], order: Order) -> list[Coupon]:
    """The coupons of a new subscription."""
    found = check_discounts(data, given, order, [])
    return [each for each in found if not isinstance(each, str)]


def add_checked(data: DataSet, found: list[str | Coupon], owner: Json) -> list[str]:
    """Creates the new discounts; returns the ids of all. `owner` is the subscription."""
    ids = []
    for each in found:
        if isinstance(each, str):
            ids.append(each)
            continue
        (discount,) = add_discounts(data, [each], owner["customer"], owner["id"])
        redeem_discount(data, discount)
        emit(data, "customer.discount.created", discount)
        ids.append(discount["id"])
    return ids


def changed_discounts(data: DataSet, subscription: Json, given: list[Json] | None) -> Json:
    """The changed field of the subscription. Discounts that are not named end now."""
    before = subscription["discounts"]
    found = check_discounts(data, given or [], order_of(data, subscription), before)
    ids = add_checked(data, found, subscription)
    now = data.clock.now()
    for each in before:
        if each not in ids:
            ended = data.put({**data.need("discount", each), "end": now})
            emit(data, "customer.discount.deleted", ended)
    return {"discounts": ids}


def delete(call: Call) -> Json:
    """Removes the subscription's discounts."""
    data, subscription = call.data, call.data.need("subscription", call.id)
    discounts = [data.need("discount", each) for each in subscription["discounts"]]
    if not discounts:
        message = "This subscription has no discount."
        raise InvalidRequest(message, code="resource_missing", status=404)
    remove_discounts(data, subscription, subscription["discounts"])
    removed = data.need("discount", discounts[0]["id"])
    return {**{key: removed[key] for key in removed if key != "end"}, "deleted": True}


OPERATIONS = (Operation("DELETE", "/v1/subscriptions/{id}/discount", Form(EXPAND), delete),)
