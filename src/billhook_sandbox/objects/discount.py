"""Discounts: a coupon in use, on a session, a subscription or an invoice."""

from billhook_sandbox.objects.coupon import (
    amount_off,
    shares,
    usable_coupon,
    usable_promotion_code,
)
from billhook_sandbox.periods import period_end
from billhook_sandbox.store import DataSet, Json


def new_discount(
    data: DataSet,
    coupon: Json,
    *,
    customer: str | None = None,
    promotion_code: str | None = None,
    **owner: str | None,
) -> Json:
    """`owner` has the id of a `checkout_session` or a `subscription`. The caller stores it."""
    now = data.clock.now()
    return {
        "id": data.ids.new("discount"),
        "object": "discount",
        "checkout_session": None,
        "customer": customer,
        "customer_account": None,
        "end": end_of(coupon, now),
        "invoice": None,
        "invoice_item": None,
        "promotion_code": promotion_code,
        "source": {"coupon": coupon["id"], "type": "coupon"},
        "start": now,
        "subscription": None,
        "subscription_item": None,
        **owner,
    }


def discount_by_code(
    data: DataSet, code: Json, customer: str | None, total: int, currency: str, param: str
) -> Json:
    """The discount of a promotion code, not stored yet. Raises InvalidRequest if the code's
    restrictions, or the coupon's, exclude this customer or amount."""
    usable_promotion_code(data, code, customer, total, currency, param)
    coupon = usable_coupon(data, code["promotion"]["coupon"], currency, param)
    return new_discount(data, coupon, customer=customer, promotion_code=code["id"])


def end_of(coupon: Json, start: int) -> int | None:
    """When a repeating discount ends. A discount that applies once ends with its first invoice."""
    if coupon["duration"] != "repeating":
        return None
    months = {"interval": "month", "interval_count": coupon["duration_in_months"]}
    return period_end(start, months, anchor=start)


def coupon_of(data: DataSet, discount: Json) -> Json:
    """The discount's coupon, also after it was deleted: its discounts stay valid."""
    coupon_id = discount["source"]["coupon"]
    return data.get("coupon", coupon_id) or data.need("_deleted_coupon", coupon_id)


def discount_amounts(
    data: DataSet, discounts: list[Json], amounts: list[int]
) -> list[list[tuple[Json, int]]]:
    """For each amount, what each discount takes off, in minor units.

    Discounts are applied one after the other, each to what is left. Negative amounts (credits) are
    not discounted.
    """
    left = [max(0, amount) for amount in amounts]
    taken: list[list[tuple[Json, int]]] = [[] for _ in amounts]
    for discount in discounts:
        parts = shares(amount_off(coupon_of(data, discount), sum(left)), left)
        for i, part in enumerate(parts):
            if part:
                left[i] -= part
                taken[i].append((discount, part))
    return taken
