"""The eight events that Stripe sends for one subscription checkout, with realistic sizes."""

from __future__ import annotations

from typing import Any

import orjson

T0 = 1_780_000_000
_REST_OF_A_REAL_OBJECT = "x" * 1500
_SUBJECT = {"insforge_subject_type": "team", "insforge_checkout_mode": "subscription"}


def purchase(name: str) -> list[tuple[str, dict[str, Any]]]:
    """Types and objects of the events of one purchase. `name` is part of every id."""
    metadata = _SUBJECT | {"insforge_subject_id": f"team_{name}"}
    paid_by = {"type": "payment_intent", "payment_intent": f"pi_{name}"}
    price = {"id": "price_bench", "object": "price", "product": "prod_bench", "currency": "eur"}
    item = {
        "id": f"si_{name}",
        "object": "subscription_item",
        "price": price,
        "quantity": 1,
        "metadata": {},
        "current_period_start": T0,
        "current_period_end": T0 + 2_592_000,
    }
    customer = {"id": f"cus_{name}", "object": "customer", "email": f"{name}@example.com"}
    return [
        ("customer.created", customer | {"name": "Ada", "metadata": {}, "created": T0}),
        (
            "payment_method.attached",
            {
                "id": f"pm_{name}",
                "object": "payment_method",
                "customer": f"cus_{name}",
                "type": "card",
                "card": {"brand": "visa", "last4": "4242", "exp_month": 12, "exp_year": 2034},
                "created": T0,
            },
        ),
        (
            "charge.succeeded",
            {
                "id": f"ch_{name}",
                "object": "charge",
                "amount": 1500,
                "amount_captured": 1500,
                "amount_refunded": 0,
                "currency": "eur",
                "payment_intent": f"pi_{name}",
                "status": "succeeded",
            },
        ),
        (
            "payment_intent.succeeded",
            {
                "id": f"pi_{name}",
                "object": "payment_intent",
                "amount": 1500,
                "amount_received": 1500,
                "currency": "eur",
                "created": T0,
                "customer": f"cus_{name}",
                "latest_charge": f"ch_{name}",
                "metadata": {},
                "status": "succeeded",
            },
        ),
        (
            "customer.subscription.created",
            {
                "id": f"sub_{name}",
                "object": "subscription",
                "customer": f"cus_{name}",
                "status": "active",
                "created": T0,
                "cancel_at_period_end": False,
                "metadata": metadata,
                "items": {"object": "list", "data": [item], "has_more": False},
            },
        ),
        (
            "invoice.paid",
            {
                "id": f"in_{name}",
                "object": "invoice",
                "amount_paid": 1500,
                "amount_due": 1500,
                "currency": "eur",
                "created": T0,
                "customer": f"cus_{name}",
                "metadata": {},
                "parent": {
                    "type": "subscription_details",
                    "subscription_details": {"subscription": f"sub_{name}", "metadata": metadata},
                },
                "status": "paid",
                "status_transitions": {"paid_at": T0},
                "lines": {"data": [{"pricing": {"price_details": {"price": price["id"]}}}]},
            },
        ),
        (
            "invoice_payment.paid",
            {
                "id": f"inpay_{name}",
                "object": "invoice_payment",
                "invoice": f"in_{name}",
                "amount_paid": 1500,
                "currency": "eur",
                "status": "paid",
                "created": T0,
                "payment": paid_by,
            },
        ),
        (
            "checkout.session.completed",
            {
                "id": f"cs_{name}",
                "object": "checkout.session",
                "mode": "subscription",
                "status": "complete",
                "payment_status": "paid",
                "amount_total": 1500,
                "currency": "eur",
                "created": T0,
                "customer": f"cus_{name}",
                "customer_details": {"email": f"{name}@example.com"},
                "invoice": f"in_{name}",
                "subscription": f"sub_{name}",
                "payment_intent": None,
                "metadata": metadata,
            },
        ),
    ]


def bodies(name: str) -> list[bytes]:
    """The events of one purchase as Stripe posts them."""
    return [
        orjson.dumps(
            {
                "id": f"evt_{name}_{number}",
                "object": "event",
                "api_version": "2026-10-28.endive",
                "created": T0,
                "livemode": False,
                "type": kind,
                "data": {"object": stripe_object | {"padding": _REST_OF_A_REAL_OBJECT}},
            }
        )
        for number, (kind, stripe_object) in enumerate(purchase(name))
    ]
