"""The customer of a paid Checkout Session: created, or updated as `customer_update` allows."""

from billhook_sandbox.event_log import change
from billhook_sandbox.flows.checkout_buyer import Buyer
from billhook_sandbox.objects.customer import full_address, full_shipping, make_customer
from billhook_sandbox.objects.tax_id import make_tax_id, tax_ids_of
from billhook_sandbox.store import DataSet, Json


def create_customer(data: DataSet, buyer: Buyer) -> Json:
    details: Json = {
        "address": buyer.address,
        "email": buyer.email,
        "name": buyer.business_name or buyer.name,
        "phone": buyer.phone,
        "shipping": shipping_of(buyer),
    }
    customer = make_customer(data, details)
    save_tax_id(data, customer, buyer)
    return customer


def update_customer(data: DataSet, customer: Json, allowed: Json, buyer: Buyer) -> Json:
    """The customer, with the details that the session may save on it."""
    values: Json = {}
    if allowed.get("address") == "auto":
        values["address"] = full_address(buyer.address)
    if allowed.get("name") == "auto" and (buyer.business_name or buyer.name):
        values["name"] = buyer.business_name or buyer.name
    if allowed.get("shipping") == "auto" and buyer.shipping:
        values["shipping"] = full_shipping(shipping_of(buyer))
    customer = change(data, customer, "customer.updated", **values)
    save_tax_id(data, customer, buyer)
    return customer


def shipping_of(buyer: Buyer) -> Json | None:
    if buyer.shipping is None:
        return None
    address, name = buyer.shipping["address"], buyer.shipping["name"]
    return {"address": address, "name": name, "phone": buyer.phone}


def save_tax_id(data: DataSet, customer: Json, buyer: Buyer) -> None:
    if buyer.tax_id is None:
        return
    known = {(each["type"], each["value"]) for each in tax_ids_of(data, customer["id"])}
    if (buyer.tax_id["type"], buyer.tax_id["value"]) not in known:
        make_tax_id(data, customer["id"], buyer.tax_id["type"], buyer.tax_id["value"])
