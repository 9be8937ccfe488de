"""Discounts of subscriptions: they apply once, for some months, or forever."""

from billhook_sandbox.event_log import change, emit
from billhook_sandbox.objects.coupon import redeem
from billhook_sandbox.objects.discount import coupon_of, new_discount
from billhook_sandbox.store import DataSet, Json

Coupon = tuple[str, str | None]
"""A coupon, and the promotion code that it was redeemed with."""


def add_discounts(
    data: DataSet, coupons: list[Coupon], customer: str, subscription: str
) -> list[Json]:
    """Stores a discount for each coupon and its promotion code. Emits no event."""
    return [
        data.put(
            new_discount(
                data,
                data.get("coupon", coupon) or data.need("_deleted_coupon", coupon),
                customer=customer,
                promotion_code=code,
                subscription=subscription,
            )
        )
        for coupon, code in coupons
    ]


def redeem_discount(data: DataSet, discount: Json) -> None:
    """Counts the redemption of a discount that was added without a Checkout Session."""
    coupon, code = discount["source"]["coupon"], discount["promotion_code"]
    redeem(data, {"coupon": coupon, "promotion_code": code})


def current_discounts(data: DataSet, subscription: Json) -> list[str]:
    """The ids of the discounts that have not ended."""
    now = data.clock.now()
    found = [data.need("discount", each) for each in subscription["discounts"]]
    return [each["id"] for each in found if each["end"] is None or each["end"] > now]


def end_used_discounts(data: DataSet, invoice: Json) -> None:
    """Removes the discounts that apply once, after the invoice that they applied to."""
    details = (invoice["parent"] or {}).get("subscription_details") or {}
    subscription = data.get("subscription", details.get("subscription"))
    if subscription is None or not subscription["discounts"]:
        return
    used = {each["discount"] for each in invoice["total_discount_amounts"]}
    for item in data.all("invoiceitem").where("invoice", invoice["id"]):
        off = item.get("proration_details", {}).get("discount_amounts", ())
        used |= {each["discount"] for each in off}
    ended = [
        each
        for each in subscription["discounts"]
        if each in used and coupon_of(data, data.need("discount", each))["duration"] == "once"
    ]
    remove_discounts(data, subscription, ended)


def end_expired_discounts(data: DataSet, subscription: Json) -> Json:
    """Removes the discounts whose months are over; returns the subscription."""
    current = current_discounts(data, subscription)
    expired = [each for each in subscription["discounts"] if each not in current]
    return remove_discounts(data, subscription, expired)


def remove_discounts(data: DataSet, subscription: Json, ended: list[str]) -> Json:
    if not ended:
        return subscription
    now = data.clock.now()
    for each in ended:
        discount = data.need("discount", each)
        end = discount["end"] or now
        discount = data.put({**discount, "end": min(end, now)})
        emit(data, "customer.discount.deleted", discount)
    left = [each for each in subscription["discounts"] if each not in ended]
    return change(data, subscription, "customer.subscription.updated", discounts=left)
