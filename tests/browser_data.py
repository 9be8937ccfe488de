"""A shop's business as events, for pages that have something to show."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Any

from stripe_events import (
    T0,
    customer,
    dispute,
    event,
    invoice,
    payment_intent,
    price,
    product,
    refund,
    subject,
    subscription,
)

NAMES = (
    "Ada Lovelace", "Bruno Keller", "Chiara Conti", "Dmitri Volkov", "Elif Kaya", "Femi Adeyemi",
    "Grace Hopper", "Hugo Lindqvist", "Ines Ortega", "Jun Tanaka",
)  # fmt: skip
GOODS = {"mug": ("Coffee mug", 1450), "shirt": ("T-shirt", 2400), "poster": ("Poster", 1900)}
_FIXED = int(datetime(2026, 11, 15, 12, 30, tzinfo=UTC).timestamp())


def a_month_of_business(days: int = 30, prefix: str = "") -> list[dict[str, Any]]:
    """Customers, a catalog, subscriptions, payments, some refused and some refunded, the oldest
    first. The same each time, but for the days, which end today. `pi_fixed` has a known minute."""
    lot = random.Random(7)
    now = int(time.time())
    begin = now - days * 86_400
    told: list[tuple[int, str, dict[str, Any]]] = []
    if not prefix:
        for name, (title, amount) in GOODS.items():
            told.append((begin, "product.created", product(f"prod_{name}", name=title)))
            told.append((begin, "price.created", price(
                f"price_{name}", product=f"prod_{name}", unit_amount=amount)))  # fmt: skip
        for number, name in enumerate(NAMES):
            email = f"{name.split()[0].lower()}@example.com"
            person = customer(f"cus_{number}", name=name, email=email, created=begin)
            told.append((begin + number, "customer.created", person))
            if number % 2 == 0:
                of = subject("team", f"team_{number}")
                plan = subscription(
                    f"sub_{number}", customer=f"cus_{number}", metadata=of, created=begin,
                    current_period_end=now + 800_000)  # fmt: skip
                told.append((begin + 60 + number, "customer.subscription.created", plan))
        team = {"name": "Team plan"}
        monthly = {"interval": "month", "interval_count": 1, "usage_type": "licensed"}
        told.append((begin, "product.created", product("prod_1", **team)))
        of_team = {"product": "prod_1", "unit_amount": 1200, "type": "recurring"}
        recurring = price("price_1", recurring=monthly, **of_team)
        told.append((begin, "price.created", recurring))
        billed = invoice(customer="cus_0", created=begin, total=3600, amount_paid=3600)
        told.append((begin + 100, "invoice.paid", billed))
        disputed = dispute(
            charge="ch_refunded", payment_intent="pi_refunded", amount=2450, created=now - 1_800,
            evidence_details={"due_by": now + 500_000, "submission_count": 0})  # fmt: skip
        told.append((now - 1_800, "charge.dispute.created", disputed))
        told += _payment("pi_fixed", _FIXED, 1, 1450, "Coffee mug")
        told += _payment("pi_refunded", now - 7_200, 2, 4900, "Two T-shirts")
        back = refund(
            "re_half", payment_intent="pi_refunded", charge="ch_refunded", amount=2450,
            created=now - 3_600)  # fmt: skip
        told.append((now - 3_600, "refund.created", back))
    for day in range(days):
        for number in range(lot.randint(2, 7)):
            at = now - day * 86_400 - lot.randint(0, 80_000)
            person = lot.randrange(len(NAMES))
            title, _ = lot.choice(list(GOODS.values()))
            amount = lot.choice([900, 1450, 1900, 4900, 12_000])
            name = f"{prefix}{day}_{number}"
            failed = lot.random() < 0.08
            told += _payment(f"pi_{name}", at, person, amount, title, failed=failed)
            if not failed and lot.random() < 0.12:
                back = refund(
                    f"re_{name}",
                    payment_intent=f"pi_{name}",
                    charge=f"ch_{name}",
                    created=at + 3_000,
                    amount=lot.choice([amount, amount // 2]),
                )
                told.append((at + 3_000, "refund.created", back))
    return [
        event(kind, of, at=at - T0, id=f"evt_{prefix}{number}")
        for number, (at, kind, of) in enumerate(sorted(told, key=lambda each: each[0]))
    ]


def _payment(
    name: str, at: int, person: int, amount: int, title: str, *, failed: bool = False
) -> list[tuple[int, str, dict[str, Any]]]:
    intent = payment_intent(
        name,
        metadata={"insforge_checkout_mode": "payment", **subject("user", f"user_{person}")},
        latest_charge=name.replace("pi_", "ch_"),
        created=at,
        customer=f"cus_{person}",
        amount=amount,
        amount_received=0 if failed else amount,
        description=title,
        receipt_email=f"{NAMES[person].split()[0].lower()}@example.com",
    )
    return [(at, "payment_intent.payment_failed" if failed else "payment_intent.succeeded", intent)]
