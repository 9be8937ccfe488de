"""Invoices, their lines and their payments."""

from billhook.sandbox.lists import envelope
from billhook.sandbox.objects.account import account_id
from billhook.sandbox.store import DataSet, Json

NEVER_FILLED: Json = {
    "account_tax_ids": None,
    "amount_overpaid": 0,
    "amount_shipping": 0,
    "application": None,
    "automatic_tax": {
        "disabled_reason": None,
        "enabled": False,
        "liability": None,
        "provider": None,
        "status": None,
    },
    "custom_fields": None,
    "customer_account": None,
    "customer_tax_ids": [],
    "default_payment_method": None,
    "default_source": None,
    "default_tax_rates": [],
    "description": None,
    "discounts": [],
    "due_date": None,
    "ending_balance": None,
    "footer": None,
    "from_invoice": None,
    "issuer": {"type": "self"},
    "last_finalization_error": None,
    "latest_revision": None,
    "on_behalf_of": None,
    "payment_settings": {
        "default_mandate": None,
        "payment_method_options": None,
        "payment_method_types": None,
    },
    "post_payment_credit_notes_amount": 0,
    "pre_payment_credit_notes_amount": 0,
    "receipt_number": None,
    "rendering": None,
    "shipping_cost": None,
    "shipping_details": None,
    "starting_balance": 0,
    "statement_descriptor": None,
    "test_clock": None,
    "total_discount_amounts": [],
    "total_pretax_credit_amounts": [],
    "total_taxes": [],
    "webhooks_delivered_at": None,
    "customer_shipping": None,
}
"""Tax, discounts, shipping, credit notes; shared, because nothing is changed in place."""

NEVER_MOVED = {
    "finalized_at": None,
    "marked_uncollectible_at": None,
    "paid_at": None,
    "voided_at": None,
}


def make_draft(
    data: DataSet, subscription: Json, customer: Json, lines: list[Json], reason: str
) -> Json:
    name, now = lines[0]["invoice"], data.clock.now()
    data.put({"id": name, "object": "_invoice_lines", "lines": lines})
    total = sum(line["amount"] for line in lines)
    return data.put(
        {
            "id": name,
            "object": "invoice",
            **NEVER_FILLED,
            "account_country": "US",
            "account_name": f"Sandbox {data.account}",
            "amount_due": total,
            "amount_paid": 0,
            "amount_remaining": total,
            "attempt_count": 0,
            "attempted": False,
            "auto_advance": True,
            "automatically_finalizes_at": now + 3600 if reason == "subscription_cycle" else None,
            "billing_reason": reason,
            "collection_method": "charge_automatically",
            "created": now,
            "currency": subscription["currency"],
            "customer": customer["id"],
            "customer_address": customer["address"],
            "customer_email": customer["email"],
            "customer_name": customer["name"],
            "customer_phone": customer["phone"],
            "customer_tax_exempt": customer["tax_exempt"],
            "effective_at": None,
            "hosted_invoice_url": None,
            "invoice_pdf": None,
            "lines": line_list(name, lines),
            "livemode": data.livemode,
            "metadata": {},
            "next_payment_attempt": None,
            "number": None,
            "parent": parent_of(subscription),
            "period_end": now,
            "period_start": now,
            "status": "draft",
            "status_transitions": NEVER_MOVED,
            "subtotal": total,
            "subtotal_excluding_tax": total,
            "total": total,
            "total_excluding_tax": total,
        }
    )


def line_list(invoice: str, lines: list[Json]) -> Json:
    """Embedded, a list shows its first ten."""
    found = envelope(lines[:10], f"/v1/invoices/{invoice}/lines", len(lines) > 10)
    return {**found, "total_count": len(lines)}


def parent_of(subscription: Json) -> Json:
    """With the subscription's metadata as it is now (stripe-facts 13)."""
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {
        "quote_details": None,
        "subscription_details": details,
        "type": "subscription_details",
    }


def item_line(data: DataSet, invoice: str, item: Json, name: str) -> Json:
    """The line of a subscription item, for the item's period."""
    parent = {
        "invoice_item_details": None,
        "subscription_item_details": {
            "invoice_item": None,
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": item["subscription"],
            "subscription_item": item["id"],
        },
        "type": "subscription_item_details",
    }
    period = {"start": item["current_period_start"], "end": item["current_period_end"]}
    line = make_line(data, invoice, item["price"], item["quantity"], name, period, parent)
    return {**line, "subscription": item["subscription"]}


def extra_line(
    data: DataSet, invoice: str, subscription: str, price: Json, quantity: int, name: str
) -> Json:
    """A one-time price on the first invoice."""
    parent = {
        "invoice_item_details": {
            "invoice_item": "ii_1" + data.ids.random(23),
            "proration": False,
            "proration_details": {"credited_items": None},
            "subscription": subscription,
        },
        "subscription_item_details": None,
        "type": "invoice_item_details",
    }
    period = {"start": data.clock.now(), "end": data.clock.now()}
    line = make_line(data, invoice, price, quantity, name, period, parent)
    return {**line, "subscription": subscription}


def make_line(
    data: DataSet,
    invoice: str,
    price: Json,
    quantity: int,
    name: str,
    period: Json,
    parent: Json,
) -> Json:
    amount = (price["unit_amount"] or 0) * quantity
    return {
        "id": data.ids.new("line_item"),
        "object": "line_item",
        "amount": amount,
        "currency": price["currency"],
        "description": f"{quantity} × {name}",
        "discount_amounts": [],
        "discountable": True,
        "discounts": [],
        "invoice": invoice,
        "livemode": data.livemode,
        "metadata": {},
        "parent": parent,
        "period": period,
        "pretax_credit_amounts": [],
        "pricing": {
            "price_details": {"price": price["id"], "product": price["product"]},
            "type": "price_details",
            "unit_amount_decimal": price["unit_amount_decimal"],
        },
        "quantity": quantity,
        "quantity_decimal": str(quantity),
        "subtotal": amount,
        "taxes": [],
    }


def finalized(data: DataSet, invoice: Json, customer: Json) -> Json:
    """What finalizing changes: a number, an address, and no more automatic finalization."""
    now = data.clock.now()
    address = f"https://invoice.stripe.com/i/{account_id(data.account)}/{data.ids.random(40)}"
    return {
        **invoice,
        "automatically_finalizes_at": None,
        "effective_at": now,
        "hosted_invoice_url": address,
        "invoice_pdf": f"{address}/pdf",
        "number": f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}",
        "status": "open",
        "status_transitions": {**invoice["status_transitions"], "finalized_at": now},
    }


def paid(data: DataSet, invoice: Json) -> Json:
    return {
        **invoice,
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "attempt_count": invoice["attempt_count"] or 1,
        "attempted": True,
        "auto_advance": False,
        "next_payment_attempt": None,
        "status": "paid",
        "status_transitions": {**invoice["status_transitions"], "paid_at": data.clock.now()},
    }


def make_payment(data: DataSet, invoice: Json, intent: str) -> Json:
    return data.put(
        {
            "id": data.ids.new("invoice_payment"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": data.clock.now(),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": True,
            "livemode": data.livemode,
            "payment": {"payment_intent": intent, "type": "payment_intent"},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )
