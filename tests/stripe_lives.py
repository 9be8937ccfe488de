"""Whole lives of a payment, a subscription and a catalog, as their events tell them."""

from __future__ import annotations

from typing import Any

from stripe_events import (
    charge,
    customer,
    dispute,
    event,
    invoice,
    invoice_payment,
    meter,
    payment_intent,
    payment_method,
    refund,
    session,
    subject,
    subscription,
)

PAYS = {"insforge_checkout_mode": "payment"}


def one_time_payment() -> list[dict[str, Any]]:
    """Declined, then paid, partly refunded, one refund failed later, the customer deleted."""
    mine = subject("user", "u1") | PAYS
    return [
        event("customer.created", customer(), at=0),
        event("customer.updated", customer(name="Ada L."), at=4, previous={"name": "Ada"}),
        event(
            "payment_intent.payment_failed",
            payment_intent(amount_received=0, latest_charge="ch_0", metadata=mine),
            at=3,
        ),
        event("payment_intent.succeeded", payment_intent(metadata=mine), at=5),
        event("checkout.session.completed", session(metadata=mine), at=5),
        event("refund.created", refund(status="pending"), at=100),
        event("refund.updated", refund(), at=101),
        event("charge.refunded", charge(amount_refunded=500), at=101),
        event("refund.created", refund("re_2", amount=300), at=150),
        event("charge.refunded", charge(amount_refunded=800), at=150),
        event("refund.failed", refund("re_2", amount=300, status="failed"), at=151),
        event("customer.deleted", customer(name="Ada L."), at=900),
    ]


def subscription_life() -> list[dict[str, Any]]:
    """Bought, renewed after a failure, cancelled; the customer moves to another team."""
    who = {"customer": "cus_2"}
    bought = session(
        "cs_2",
        mode="subscription",
        payment_intent=None,
        metadata=subject(),
        subscription="sub_1",
        **who,
    )
    moved = session(
        "cs_3", mode="subscription", payment_intent=None, metadata=subject(name="t2"), **who
    )
    fresh: dict[str, Any] = {"amount_paid": 0, "status_transitions": {}, **who}
    first = invoice(status="draft", number=None, **fresh)
    draft = invoice("in_9", status="draft", number=None, **fresh)
    return [
        event("customer.created", customer("cus_2"), at=0),
        event("checkout.session.completed", bought, at=10),
        event("customer.subscription.created", subscription(status="incomplete", **who), at=10),
        event("customer.subscription.updated", subscription(**who), at=10),
        event("invoice.created", first, at=11),
        event("invoice.finalized", invoice(status="open", **fresh), at=11),
        event("invoice.paid", invoice(**who), at=11),
        event("invoice_payment.paid", invoice_payment(), at=30),
        event("invoice.payment_failed", invoice("in_2", status="open", **fresh), at=200),
        event("customer.subscription.updated", subscription(status="past_due", **who), at=200),
        event("invoice.paid", invoice("in_2", **who), at=300),
        event("invoice_payment.paid", invoice_payment("in_2", "pi_10"), at=301),
        event("customer.subscription.updated", subscription(**who), at=300),
        event("invoice.created", draft, at=350),
        event("invoice.updated", draft | {"amount_due": 1}, at=351, previous={"amount_due": 2900}),
        event("invoice.deleted", draft | {"amount_due": 1}, at=351),
        event("checkout.session.completed", moved, at=400),
        event("invoice.paid", invoice("in_3", **who), at=500),
        event("customer.subscription.deleted", subscription(status="canceled", **who), at=600),
    ]


def catalog_life() -> list[dict[str, Any]]:
    """A product and its price, renamed, deleted and made anew under the old id."""
    gold = {"id": "gold", "object": "product", "name": "Gold", "active": True, "metadata": {}}
    price = {
        "id": "price_1",
        "object": "price",
        "product": "gold",
        "active": True,
        "currency": "eur",
        "unit_amount": 900,
        "type": "one_time",
    }
    return [
        event("product.created", gold, at=0),
        event("product.updated", gold | {"name": "Gold+"}, at=5, previous={"name": "Gold"}),
        event("product.deleted", gold | {"name": "Gold+", "active": False}, at=9),
        event("product.created", gold | {"name": "Gold again"}, at=20),
        event("price.created", price, at=1),
        event("price.updated", price | {"active": False}, at=2, previous={"active": True}),
        event("price.deleted", price, at=3),
    ]


def dispute_life() -> list[dict[str, Any]]:
    """Answered and won. Closed and paid back come in one second, with one state."""
    won = dispute(status="won")
    return [
        event("charge.dispute.created", dispute(), at=200),
        event("charge.dispute.funds_withdrawn", dispute(), at=200),
        event(
            "charge.dispute.updated",
            dispute(status="under_review"),
            at=250,
            previous={"status": "needs_response"},
        ),
        event("charge.dispute.closed", won, at=300, previous={"status": "under_review"}),
        event("charge.dispute.funds_reinstated", won, at=300),
        event("charge.dispute.created", dispute("dp_2", amount=400), at=400),
        event("charge.dispute.closed", dispute("dp_2", amount=400, status="lost"), at=400),
    ]


def card_life() -> list[dict[str, Any]]:
    """One card renewed by its bank and kept, another one detached."""
    renewed = {"brand": "visa", "exp_month": 12, "exp_year": 2038, "last4": "4242"}
    before = {"card": {"exp_year": 2034}}
    second = payment_method("pm_2", customer="cus_2")
    return [
        event("payment_method.attached", payment_method(), at=20),
        event(
            "payment_method.automatically_updated",
            payment_method(card=renewed),
            at=20,
            previous=before,
        ),
        event("payment_method.attached", second, at=21),
        event(
            "payment_method.updated",
            second | {"metadata": {"main": "yes"}},
            at=25,
            previous={"metadata": {"main": None}},
        ),
        event(
            "payment_method.detached",
            second | {"customer": None},
            at=25,
            previous={"customer": "cus_2"},
        ),
    ]


def meter_life() -> list[dict[str, Any]]:
    """Renamed in the second of its creation, then deactivated and reactivated."""
    renamed, off = {"display_name": "Calls"}, {"display_name": "Calls", "status": "inactive"}
    return [
        event("billing.meter.created", meter(), at=30),
        event(
            "billing.meter.updated", meter(**renamed), at=30, previous={"display_name": "API calls"}
        ),
        event("billing.meter.deactivated", meter(**off), at=40, previous={"status": "active"}),
        event(
            "billing.meter.reactivated", meter(**renamed), at=40, previous={"status": "inactive"}
        ),
    ]


LIFE = [
    *one_time_payment(),
    *subscription_life(),
    *catalog_life(),
    *dispute_life(),
    *card_life(),
    *meter_life(),
]


IN_A_RING = [
    event(
        "product.updated",
        {"id": "tea", "object": "product", "name": name, "active": True, "metadata": {}},
        previous={"name": before},
    )
    for before, name in (("Tea", "Chai"), ("Chai", "Mate"), ("Mate", "Tea"))
]
"""Three changes of one second that lead back to where they began."""
