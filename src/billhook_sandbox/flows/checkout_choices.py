"""Choices that change what a Checkout Session costs: codes, quantities, shipping and address."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.checkout_buyer import Buyer
from billhook_sandbox.flows.checkout_totals import cart_of, save_totals, subtotal_of
from billhook_sandbox.objects.coupon import codes_named, with_current_activity
from billhook_sandbox.objects.discount import discount_by_code
from billhook_sandbox.objects.taxes import location_of
from billhook_sandbox.store import DataSet, Json


def apply_choices(data: DataSet, session: Json, buyer: Buyer) -> Json:
    """Recalculates and stores the session. Raises InvalidRequest for a choice that is not offered.
    A code that was entered before is removed if it can no longer be used."""
    if session["mode"] == "setup":
        return session
    record = data.need("_checkout", session["id"])
    chosen = {
        **record,
        "line_items": changed_quantities(record["line_items"], buyer),
        "location": location(data, session, record, buyer),
        "shipping_rate": shipping_rate(session, record, buyer),
    }
    if unusable_code(data, session, chosen):
        chosen["discounts"], session = [], {**session, "discounts": []}
    discount = redeemed_discount(data, session, chosen, buyer)
    if discount:
        data.put(discount)
        chosen["discounts"] = [discount]
        shown = {"coupon": None, "promotion_code": discount["promotion_code"]}
        session = {**session, "discounts": [shown]}
    return save_totals(data, session, chosen)


def changed_quantities(items: list[Json], buyer: Buyer) -> list[Json]:
    known = {item["id"] for item in items}
    for item_id in buyer.quantities:
        if item_id not in known:
            raise InvalidRequest(f"No such line item: '{item_id}'", param="quantities")
    found = [changed_quantity(item, buyer.quantities.get(item["id"])) for item in items]
    remaining = [item for item in found if item["quantity"] != 0]
    if not remaining:
        raise InvalidRequest("The order is empty.", param="quantities")
    return remaining


def changed_quantity(item: Json, quantity: int | None) -> Json:
    bounds = item["adjustable_quantity"]
    if quantity in (None, item["quantity"]):
        return item
    if bounds is None:
        message = "The quantity of this item can't be changed."
        raise InvalidRequest(message, param="quantities")
    if not bounds["minimum"] <= quantity <= bounds["maximum"]:
        message = f"The quantity must be between {bounds['minimum']} and {bounds['maximum']}."
        raise InvalidRequest(message, param="quantities")
    return {**item, "quantity": quantity}


def shipping_rate(session: Json, record: Json, buyer: Buyer) -> str | None:
    if buyer.shipping_rate is None:
        return record["shipping_rate"] and str(record["shipping_rate"])
    offered = [option["shipping_rate"] for option in session["shipping_options"]]
    if buyer.shipping_rate not in offered:
        raise InvalidRequest("Select a shipping method.", param="shipping_rate")
    return buyer.shipping_rate


def location(data: DataSet, session: Json, record: Json, buyer: Buyer) -> list[str] | None:
    """Where taxes are due: at the address that the customer has after this checkout."""
    customer = data.get("customer", session["customer"])
    address, shipping, exempt = buyer.address, buyer.shipping, "none"
    if customer:
        update, exempt = record["customer_update"], customer["tax_exempt"]
        if update.get("address") != "auto":
            address = customer["address"]
        if update.get("shipping") != "auto":
            shipping = customer["shipping"]
    found = location_of({"address": address, "shipping": shipping, "tax_exempt": exempt})
    return list(found) if found else None


def redeemed_discount(data: DataSet, session: Json, record: Json, buyer: Buyer) -> Json | None:
    """The discount of the code that the buyer entered, if it is a new one."""
    if not buyer.promotion_code:
        return None
    param = "promotion_code"
    if not session["allow_promotion_codes"]:
        raise InvalidRequest("This session does not accept promotion codes.", param=param)
    code = code_for(data, buyer.promotion_code, session["customer"])
    if code is None:
        raise InvalidRequest("This code is invalid.", param=param)
    if any(each["promotion_code"] == code["id"] for each in record["discounts"]):
        return None
    discount = discount_of(data, session, record, code, param)
    return {**discount, "checkout_session": session["id"]}


def code_for(data: DataSet, entered: str, customer: str | None) -> Json | None:
    """The promotion code with that name: an active one, and rather the customer's own."""

    def rank(code: Json) -> tuple[bool, bool, bool]:
        usable = code["customer"] in (None, customer)
        active = with_current_activity(data, code)["active"]
        return usable and active, usable, code["customer"] is not None

    return max(reversed(codes_named(data, entered)), key=rank, default=None)


def discount_of(data: DataSet, session: Json, record: Json, code: Json, param: str) -> Json:
    cart = cart_of(data, record)
    total = sum(subtotal_of(data, item, cart.trial) for item in cart.items)
    customer, currency = session["customer"], session["currency"]
    return discount_by_code(data, code, customer, total, currency, param)


def unusable_code(data: DataSet, session: Json, record: Json) -> InvalidRequest | None:
    """Why the code that the buyer entered before can no longer be used: it was used up or expired
    since, or the order is too small now."""
    for discount in record["discounts"] if session["allow_promotion_codes"] else ():
        code = data.need("promotion_code", discount["promotion_code"])
        try:
            discount_of(data, session, record, code, "promotion_code")
        except InvalidRequest as error:
            return error
    return None


def require_usable_code(data: DataSet, session: Json, buyer: Buyer) -> None:
    """Nobody pays without a discount that the page has shown."""
    if session["mode"] == "setup":
        return
    record = data.need("_checkout", session["id"])
    items = changed_quantities(record["line_items"], buyer)
    if problem := unusable_code(data, session, {**record, "line_items": items}):
        raise problem
