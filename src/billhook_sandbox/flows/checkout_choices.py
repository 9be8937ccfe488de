"""Choices that change what a Checkout Session costs: codes, quantities, shipping and address."""

from billhook_sandbox.errors import InvalidRequest
from billhook_sandbox.flows.checkout_buyer import Buyer
from billhook_sandbox.flows.checkout_totals import cart_of, save_totals, subtotal_of
from billhook_sandbox.objects.discount import discount_by_code
from billhook_sandbox.objects.taxes import location_of
from billhook_sandbox.store import DataSet, Json


def apply_choices(data: DataSet, session: Json, buyer: Buyer) -> Json:
    """Recalculates and stores the session. Raises InvalidRequest for a choice that is not offered;
    then nothing changes."""
    if session["mode"] == "setup":
        return session
    record = data.need("_checkout", session["id"])
    chosen = {
        **record,
        "line_items": changed_quantities(record["line_items"], buyer),
        "location": location(data, session, record, buyer),
        "shipping_rate": shipping_rate(session, record, buyer),
    }
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
    found = [
        code
        for code in data.all("promotion_code").rows.values()
        if code["code"].lower() == buyer.promotion_code.lower()
    ]
    if not found:
        raise InvalidRequest("This code is invalid.", param=param)
    if any(each["promotion_code"] == found[-1]["id"] for each in record["discounts"]):
        return None
    cart = cart_of(data, record)
    total = sum(subtotal_of(data, item, cart.trial) for item in cart.items)
    customer, currency = session["customer"], session["currency"]
    discount = discount_by_code(data, found[-1], customer, total, currency, param)
    return {**discount, "checkout_session": session["id"]}
