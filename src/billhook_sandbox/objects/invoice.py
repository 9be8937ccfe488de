"""Invoices, their lines and their payments."""

from billhook_sandbox.objects.account import account_id, account_name
from billhook_sandbox.objects.catalog import billed_units, is_metered
from billhook_sandbox.objects.invoice_totals import tax_setting, with_lines
from billhook_sandbox.objects.pricing import amount_for
from billhook_sandbox.store import DataSet, Json

UNUSED_FIELDS: Json = {
    "account_tax_ids": None,
    "amount_overpaid": 0,
    "application": None,
    "custom_fields": None,
    "customer_account": None,
    "customer_tax_ids": [],
    "default_source": None,
    "default_tax_rates": [],
    "discounts": [],
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
    "statement_descriptor": None,
    "webhooks_delivered_at": None,
    "customer_shipping": None,
}
"""Fields that the sandbox never sets. Shared, because objects are never modified in place."""

DRAFT_SECONDS = 3600
"""How long the invoice of a renewal stays a draft (stripe-facts 14)."""

NO_TRANSITIONS = {
    "finalized_at": None,
    "marked_uncollectible_at": None,
    "paid_at": None,
    "voided_at": None,
}


def make_draft(
    data: DataSet,
    invoice_id: str,
    customer: Json,
    lines: list[Json],
    reason: str,
    *,
    subscription: Json | None = None,
    **values: object,
) -> Json:
    """A draft for a subscription or a manual invoice; `values` override the defaults."""
    now = data.clock.now()
    cycle = reason == "subscription_cycle"
    automatic = subscription is not None and subscription["automatic_tax"]["enabled"]
    draft = {
        "id": invoice_id,
        "object": "invoice",
        **UNUSED_FIELDS,
        "automatic_tax": tax_setting(automatic, None),
        "account_country": "US",
        "account_name": account_name(data),
        "amount_paid": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatically_finalizes_at": now + DRAFT_SECONDS if cycle else None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": now,
        "currency": subscription["currency"] if subscription else "usd",
        "customer": customer["id"],
        "customer_address": customer["address"],
        "customer_email": customer["email"],
        "customer_name": customer["name"],
        "customer_phone": customer["phone"],
        "customer_tax_exempt": customer["tax_exempt"],
        "effective_at": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "livemode": data.livemode,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "parent": parent_of(subscription) if subscription else None,
        "period_end": now,
        "period_start": now,
        "status": "draft",
        "starting_balance": 0,
        "status_transitions": NO_TRANSITIONS,
        "test_clock": customer["test_clock"],
        "default_payment_method": None,
        "description": None,
        "due_date": None,
        "ending_balance": None,
        "footer": None,
        **values,
    }
    return data.put({**draft, **with_lines(data, draft, lines)})


def parent_of(subscription: Json) -> Json:
    """Contains the subscription's current metadata (stripe-facts 13)."""
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {
        "quote_details": None,
        "subscription_details": details,
        "type": "subscription_details",
    }


def item_line(
    data: DataSet, invoice: str, item: Json, name: str, trial: bool = False, used: int | None = None
) -> Json:
    """The line for a subscription item and its period; a trial is free.

    `used` is the usage of a metered item, which is billed in arrears.
    """
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
    units = billed_units(item) if used is None else used
    line = make_line(data, invoice, item["price"], units, name, period, parent)
    if is_metered(item["price"]) and used is None:
        line = {**line, "amount": 0, "subtotal": 0}
    if trial:
        free = {"amount": 0, "subtotal": 0, "description": f"Trial period for {name}"}
        return {**line, **free, "subscription": item["subscription"]}
    return {**line, "subscription": item["subscription"]}


def one_time_line(
    data: DataSet, invoice: str, subscription: str, price: Json, quantity: int, name: str
) -> Json:
    """The line for a one-time price on the first invoice."""
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


def invoice_item_line(data: DataSet, invoice: str, item: Json) -> Json:
    """The line for an invoice item, such as a proration."""
    details = (item["parent"] or {}).get("subscription_details") or {}
    parent = {
        "invoice_item_details": {
            "invoice_item": item["id"],
            "proration": item["proration"],
            "proration_details": {"credited_items": None},
            "subscription": details.get("subscription"),
        },
        "subscription_item_details": None,
        "type": "invoice_item_details",
    }
    return {
        "id": data.ids.new("line_item"),
        "object": "line_item",
        "amount": item["amount"],
        "currency": item["currency"],
        "description": item["description"],
        "discount_amounts": [],
        "discountable": item["discountable"],
        "discounts": [],
        "invoice": invoice,
        "livemode": data.livemode,
        "metadata": item["metadata"],
        "parent": parent,
        "period": item["period"],
        "pretax_credit_amounts": [],
        "pricing": item["pricing"],
        "quantity": item["quantity"],
        "quantity_decimal": str(item["quantity"]),
        "subscription": details.get("subscription"),
        "subtotal": item["amount"],
        "taxes": [],
    }


def make_line(
    data: DataSet,
    invoice: str,
    price: Json,
    quantity: int,
    name: str,
    period: Json,
    parent: Json,
) -> Json:
    amount = amount_for(data, price, quantity)
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


def finalized_invoice(
    data: DataSet, invoice: Json, customer: Json, applies_balance: bool = True
) -> Json:
    """The finalized invoice, with its number and its URLs. The customer's balance is applied to the
    next invoice that is finalized."""
    now, total = data.clock.now(), invoice["total"]
    balance = customer["balance"] if applies_balance else 0
    due = max(0, total + balance)
    url = f"https://invoice.stripe.com/i/{account_id(data.account)}/{data.ids.random(40)}"
    return {
        **invoice,
        "amount_due": due,
        "amount_remaining": due,
        "automatically_finalizes_at": None,
        "effective_at": now,
        "ending_balance": total + balance - due if applies_balance else customer["balance"],
        "hosted_invoice_url": url,
        "invoice_pdf": f"{url}/pdf",
        "number": f"{customer['invoice_prefix']}-{customer['next_invoice_sequence']:04}",
        "starting_balance": customer["balance"],
        "status": "open",
        "status_transitions": {**invoice["status_transitions"], "finalized_at": now},
    }


def paid_invoice(data: DataSet, invoice: Json) -> Json:
    return {
        **invoice,
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "attempt_count": invoice["attempt_count"] or int(bool(invoice["amount_due"])),
        "attempted": True,
        "auto_advance": False,
        "next_payment_attempt": None,
        "status": "paid",
        "status_transitions": {**invoice["status_transitions"], "paid_at": data.clock.now()},
    }


def make_invoice_payment(data: DataSet, invoice: Json, intent: str) -> Json:
    payment = {"payment_intent": intent, "type": "payment_intent"}
    return _make_payment(data, invoice, payment, is_default=True)


def make_payment_by_record(data: DataSet, invoice: Json, record: str) -> Json:
    """A payment outside of Stripe."""
    payment = {"payment_record": record, "type": "payment_record"}
    return _make_payment(data, invoice, payment, is_default=False)


def _make_payment(data: DataSet, invoice: Json, payment: Json, *, is_default: bool) -> Json:
    return data.put(
        {
            "id": data.ids.new("invoice_payment"),
            "object": "invoice_payment",
            "amount_paid": None,
            "amount_requested": invoice["amount_due"],
            "created": data.clock.now(),
            "currency": invoice["currency"],
            "invoice": invoice["id"],
            "is_default": is_default,
            "livemode": data.livemode,
            "payment": payment,
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        }
    )
