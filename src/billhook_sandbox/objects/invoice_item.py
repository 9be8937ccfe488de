"""Invoice items: amounts for a customer's next invoice, such as prorations."""

from billhook_sandbox.store import DataSet, Json


def make_invoice_item(
    data: DataSet,
    customer: Json,
    amount: int,
    currency: str,
    *,
    subscription: str | None = None,
    subscription_item: str | None = None,
    price: Json | None = None,
    **values: object,
) -> Json:
    """`values` override the defaults. Emits no event. Only a proration has `proration_details`."""
    now = data.clock.now()
    return data.put(
        {
            "id": data.ids.new("invoiceitem"),
            "object": "invoiceitem",
            "amount": amount,
            "currency": currency,
            "customer": customer["id"],
            "customer_account": None,
            "date": now,
            "description": None,
            "discountable": True,
            "discounts": [],
            "frozen_fields": [],
            "invoice": None,
            "invoicing_rules": [],
            "livemode": data.livemode,
            "metadata": {},
            "net_amount": amount,
            "parent": parent_of(subscription, subscription_item),
            "period": {"start": now, "end": now},
            "pricing": pricing_of(price),
            "proration": False,
            "quantity": 1,
            "quantity_decimal": "1",
            "tax_rates": [],
            "test_clock": customer["test_clock"],
            **values,
        }
    )


def parent_of(subscription: str | None, item: str | None) -> Json | None:
    if subscription is None:
        return None
    details = {"subscription": subscription} | ({"subscription_item": item} if item else {})
    return {"subscription_details": details, "type": "subscription_details"}


def subscription_item_of(item: Json) -> str | None:
    """The subscription item that the invoice item is for."""
    details = (item["parent"] or {}).get("subscription_details") or {}
    found: str | None = details.get("subscription_item")
    return found


def pricing_of(price: Json | None) -> Json | None:
    if price is None:
        return None
    return {
        "price_details": {"price": price["id"], "product": price["product"]},
        "type": "price_details",
        "unit_amount_decimal": price["unit_amount_decimal"],
    }
