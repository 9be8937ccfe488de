"""Customers in Stripe with cards and a subscription."""

from __future__ import annotations

from recovering import Station


def customer_of(station: Station, user: str) -> tuple[str, list[str]]:
    """A customer in Stripe with two cards and a subscription."""
    v1 = station.stripe.v1
    customer = v1.customers.create({"email": "ada@example.com"}).id
    cards = [
        v1.payment_methods.attach(each, {"customer": customer}).id
        for each in ("pm_card_visa", "pm_card_mastercard")
    ]
    v1.customers.update(customer, {"invoice_settings": {"default_payment_method": cards[0]}})
    product = v1.products.create({"name": "Plan"})
    price = v1.prices.create(
        {
            "product": product.id,
            "currency": "eur",
            "unit_amount": 900,
            "recurring": {"interval": "month"},
        }
    )
    v1.subscriptions.create(
        {
            "customer": customer,
            "items": [{"price": price.id}],
            "metadata": {"insforge_subject_type": "user", "insforge_subject_id": user},
        }
    )
    return customer, cards


def default_of(station: Station, customer: str) -> str:
    found = station.stripe.v1.customers.retrieve(customer).invoice_settings
    assert found is not None
    return str(found.default_payment_method)
