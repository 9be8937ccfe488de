"""Coupons, promotion codes and their discounts."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.event_log import emit
from billhook_sandbox.params import merge_metadata
from billhook_sandbox.store import DataSet, Json


def make_coupon(data: DataSet, given: Json) -> Json:
    coupon = data.put(
        {
            "id": given.get("id") or data.ids.random(8),
            "object": "coupon",
            "amount_off": given.get("amount_off"),
            "created": data.clock.now(),
            "currency": given.get("currency") if "amount_off" in given else None,
            "duration": given.get("duration", "once"),
            "duration_in_months": given.get("duration_in_months"),
            "livemode": data.livemode,
            "max_redemptions": given.get("max_redemptions"),
            "metadata": merge_metadata({}, given.get("metadata")),
            "name": given.get("name"),
            "percent_off": given.get("percent_off"),
            "redeem_by": given.get("redeem_by"),
            "times_redeemed": 0,
            "valid": True,
        }
    )
    emit(data, "coupon.created", coupon)
    return coupon


def make_promotion_code(data: DataSet, coupon: Json, given: Json) -> Json:
    restrictions = {"first_time_transaction": False, "minimum_amount": None}
    restrictions |= {"minimum_amount_currency": None, **given.get("restrictions", {})}
    code = data.put(
        {
            "id": data.ids.new("promotion_code"),
            "object": "promotion_code",
            "active": given.get("active", True),
            "code": given.get("code") or data.ids.random(8).upper(),
            "created": data.clock.now(),
            "customer": given.get("customer"),
            "customer_account": None,
            "expires_at": given.get("expires_at"),
            "livemode": data.livemode,
            "max_redemptions": given.get("max_redemptions"),
            "metadata": merge_metadata({}, given.get("metadata")),
            "promotion": {"coupon": coupon["id"], "type": "coupon"},
            "restrictions": restrictions,
            "times_redeemed": 0,
        }
    )
    emit(data, "promotion_code.created", code)
    return code


def with_current_validity(data: DataSet, coupon: Json) -> Json:
    """With `valid` as of now: a stored coupon may have expired since."""
    expired = coupon["redeem_by"] is not None and coupon["redeem_by"] <= data.clock.now()
    return {**coupon, "valid": not expired and not is_used_up(coupon)}


def with_current_activity(data: DataSet, code: Json) -> Json:
    expired = code["expires_at"] is not None and code["expires_at"] <= data.clock.now()
    coupon = data.get("coupon", code["promotion"]["coupon"])
    usable = coupon is not None and with_current_validity(data, coupon)["valid"]
    return {**code, "active": code["active"] and usable and not expired and not is_used_up(code)}


def codes_named(data: DataSet, code: str) -> list[Json]:
    """The promotion codes with that name, regardless of case."""
    codes = data.all("promotion_code").rows.values()
    return [found for found in codes if found["code"].lower() == code.lower()]


def is_used_up(obj: Json) -> bool:
    maximum = obj["max_redemptions"]
    return maximum is not None and obj["times_redeemed"] >= maximum


def usable_coupon(data: DataSet, coupon_id: str, currency: str, param: str) -> Json:
    coupon = data.need("coupon", coupon_id, param)
    if not with_current_validity(data, coupon)["valid"]:
        message = f"Coupon {coupon_id} is expired or used up and can't be applied."
        raise InvalidRequest(message, code="coupon_expired", param=param)
    if coupon["amount_off"] is not None and coupon["currency"] != currency:
        message = f"This coupon is for payments in {coupon['currency']}, not {currency}."
        raise InvalidRequest(message, param=param)
    return coupon


def usable_promotion_code(
    data: DataSet, code: Json, customer: str | None, total: int, currency: str, param: str
) -> Json:
    """The code; raises InvalidRequest if its restrictions exclude this customer or amount."""
    if not with_current_activity(data, code)["active"]:
        message = f"The promotion code {code['code']} is not active."
        raise InvalidRequest(message, code="coupon_expired", param=param)
    if code["customer"] not in (None, customer):
        message = "This promotion code belongs to another customer."
        raise InvalidRequest(message, param=param)
    restrictions = code["restrictions"]
    minimum, minimum_currency = (
        restrictions[name] for name in ("minimum_amount", "minimum_amount_currency")
    )
    if minimum is not None and minimum_currency != currency:
        message = f"This promotion code is for payments in {minimum_currency}, not {currency}."
        raise InvalidRequest(message, param=param)
    if minimum is not None and total < minimum:
        message = "The total is below the minimum amount of this promotion code."
        raise InvalidRequest(message, param=param)
    if restrictions["first_time_transaction"] and has_paid(data, customer):
        message = "This promotion code is only valid for the customer's first transaction."
        raise InvalidRequest(message, param=param)
    return code


def has_paid(data: DataSet, customer: str | None) -> bool:
    """Whether the customer has a successful payment or a paid invoice."""
    if customer is None:
        return False
    charges = data.all("charge").where("customer", customer)
    invoices = data.all("invoice").where("customer", customer)
    return any(each["paid"] for each in charges) or any(
        each["status"] == "paid" for each in invoices
    )


def amount_off(coupon: Json, total: int) -> int:
    """In minor units; at most the total. Half a unit is rounded up."""
    if coupon["amount_off"] is not None:
        return min(int(coupon["amount_off"]), total)
    hundredths = round(100 * float(coupon["percent_off"]))
    return min((total * hundredths + 5000) // 10000, total)


def shares(off: int, amounts: list[int]) -> list[int]:
    """Splits `off` in proportion to the amounts; the parts add up exactly."""
    total, parts, assigned, running_total = sum(amounts), [], 0, 0
    for amount in amounts:
        running_total += amount
        target = off * running_total // total if total else 0
        parts.append(target - assigned)
        assigned = target
    return parts


def redeem(data: DataSet, discount: Json) -> None:
    """Counts a redemption when the session is paid, not when its page is opened."""
    code = data.get("promotion_code", discount["promotion_code"])
    coupon = data.get("coupon", code["promotion"]["coupon"] if code else discount["coupon"])
    for found in (code, coupon):
        if found:
            data.put({**found, "times_redeemed": found["times_redeemed"] + 1})
