"""Stripe events, built by hand: as small as an event can be and still mean something."""

from __future__ import annotations

from itertools import count
from typing import Any

import orjson

T0 = 1_780_000_000
_ids = count(1)


def event(kind: str, stripe_object: dict[str, Any], *, at: int = 0, **more: Any) -> dict[str, Any]:
    """An event of type `kind`, `at` seconds after T0; `previous` becomes previous_attributes."""
    data: dict[str, Any] = {"object": stripe_object}
    if "previous" in more:
        data["previous_attributes"] = more.pop("previous")
    return {
        "id": more.pop("id", f"evt_{next(_ids):06d}"),
        "object": "event",
        "api_version": "2026-10-28.endive",
        "created": T0 + at,
        "livemode": False,
        "pending_webhooks": 1,
        "request": {"id": None, "idempotency_key": None},
        "type": kind,
        "data": data,
        **more,
    }


def payload(of: dict[str, Any]) -> bytes:
    return orjson.dumps(of)


def subject(kind: str = "team", name: str = "t1") -> dict[str, str]:
    return {"insforge_subject_type": kind, "insforge_subject_id": name}


def customer(name: str = "cus_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "customer",
        "email": f"{name}@example.com",
        "name": "Ada",
        "phone": None,
        "metadata": {},
        "created": T0,
        **more,
    }


def session(name: str = "cs_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "checkout.session",
        "mode": "payment",
        "status": "complete",
        "payment_status": "paid",
        "amount_total": 1500,
        "currency": "eur",
        "created": T0,
        "customer": "cus_1",
        "customer_details": {"email": "buyer@example.com"},
        "payment_intent": "pi_1",
        "subscription": None,
        "metadata": {"insforge_checkout_mode": "payment"},
        "url": None,
        **more,
    }


def payment_intent(name: str = "pi_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "payment_intent",
        "amount": 1500,
        "amount_received": 1500,
        "currency": "eur",
        "created": T0 + 1,
        "customer": "cus_1",
        "description": None,
        "receipt_email": None,
        "latest_charge": "ch_1",
        "metadata": {"insforge_checkout_mode": "payment"},
        **more,
    }


def charge(name: str = "ch_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "charge",
        "amount": 1500,
        "amount_refunded": 0,
        "refunded": False,
        "currency": "eur",
        "payment_intent": "pi_1",
        **more,
    }


def refund(name: str = "re_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "refund",
        "amount": 500,
        "currency": "eur",
        "charge": "ch_1",
        "payment_intent": "pi_1",
        "status": "succeeded",
        "reason": "requested_by_customer",
        "created": T0 + 100,
        **more,
    }


def invoice(name: str = "in_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "invoice",
        "status": "paid",
        "amount_paid": 2900,
        "amount_due": 2900,
        "currency": "usd",
        "created": T0 + 2,
        "customer": "cus_1",
        "customer_email": "cus_1@example.com",
        "description": None,
        "number": "A-0001",
        "metadata": {},
        "parent": {"subscription_details": {"subscription": "sub_1", "metadata": {}}},
        "status_transitions": {"paid_at": T0 + 3},
        "lines": {
            "data": [{"pricing": {"price_details": {"price": "price_1", "product": "prod_1"}}}]
        },
        **more,
    }


def invoice_payment(of: str = "in_1", intent: str = "pi_9") -> dict[str, Any]:
    return {
        "id": f"inpay_{of}",
        "object": "invoice_payment",
        "invoice": of,
        "payment": {"type": "payment_intent", "payment_intent": intent},
    }


def subscription(name: str = "sub_1", /, **more: Any) -> dict[str, Any]:
    item = {
        "id": f"si_{name}",
        "object": "subscription_item",
        "price": {"id": "price_1", "product": "prod_1"},
        "quantity": 3,
        "metadata": {},
        "current_period_start": T0,
        "current_period_end": T0 + 2_592_000,
    }
    return {
        "id": name,
        "object": "subscription",
        "customer": "cus_1",
        "status": "active",
        "cancel_at_period_end": False,
        "cancel_at": None,
        "canceled_at": None,
        "trial_start": None,
        "trial_end": None,
        "latest_invoice": "in_1",
        "metadata": {},
        "items": {"object": "list", "data": [item], "has_more": False},
        **more,
    }


def payment_method(name: str = "pm_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "payment_method",
        "card": {"brand": "visa", "exp_month": 12, "exp_year": 2034, "last4": "4242"},
        "created": T0,
        "customer": "cus_1",
        "metadata": {},
        "type": "card",
        **more,
    }


def meter(name: str = "mtr_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "billing.meter",
        "created": T0,
        "customer_mapping": {"event_payload_key": "stripe_customer_id", "type": "by_id"},
        "default_aggregation": {"formula": "sum"},
        "display_name": "API calls",
        "event_name": "api_calls",
        "event_time_window": None,
        "status": "active",
        "value_settings": {"event_payload_key": "value"},
        **more,
    }


def dispute(name: str = "dp_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "dispute",
        "amount": 1500,
        "charge": "ch_1",
        "currency": "eur",
        "created": T0 + 200,
        "evidence_details": {"due_by": T0 + 1_000_000, "submission_count": 0},
        "metadata": {},
        "payment_intent": "pi_1",
        "reason": "fraudulent",
        "status": "needs_response",
        **more,
    }


def product(name: str = "prod_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "product",
        "name": "Tea",
        "description": None,
        "active": True,
        "default_price": None,
        "metadata": {},
        "created": T0,
        **more,
    }


def price(name: str = "price_1", /, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "object": "price",
        "product": "prod_1",
        "active": True,
        "currency": "eur",
        "unit_amount": 1500,
        "unit_amount_decimal": "1500",
        "type": "one_time",
        "lookup_key": None,
        "billing_scheme": "per_unit",
        "tax_behavior": None,
        "recurring": None,
        "metadata": {},
        "created": T0,
        **more,
    }


def paid(number: int, **more: Any) -> dict[str, Any]:
    """A payment of a Checkout of ours, `number` seconds after T0."""
    metadata = {"insforge_checkout_mode": "payment", **more.pop("metadata", {})}
    intent = payment_intent(
        f"pi_{number}",
        metadata=metadata,
        latest_charge=f"ch_{number}",
        created=T0 + number,
        **more,
    )
    return event("payment_intent.succeeded", intent, at=number)
