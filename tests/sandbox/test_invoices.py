"""Manual invoices, from their items to payment or voiding."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Shop


def payer(shop: Shop, card: str = "pm_card_visa") -> str:
    customer = shop.v1.customers.create({"email": "a@example.com"}).id
    method = shop.v1.payment_methods.attach(card, {"customer": customer}).id
    settings = {"invoice_settings": {"default_payment_method": method}}
    shop.v1.customers.update(customer, settings)
    return customer


def draft(shop: Shop, customer: str, amount: int = 700) -> Any:
    invoice = shop.v1.invoices.create({"customer": customer, "currency": "usd"})
    given = {"customer": customer, "invoice": invoice.id, "amount": amount, "currency": "usd"}
    shop.v1.invoice_items.create({**given, "description": "Advice"})
    return shop.v1.invoices.retrieve(invoice.id)


def test_an_invoice_is_finalized_and_paid(shop: Shop) -> None:
    made = draft(shop, payer(shop))
    assert (made.status, made.total, made.lines.data[0].description) == ("draft", 700, "Advice")
    assert shop.v1.invoices.finalize_invoice(made.id).status == "open"
    assert shop.v1.invoices.pay(made.id).status == "paid"
    assert shop.types("invoice.finalized", "invoice.paid", "invoice.payment_succeeded") == [
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
    ]


def test_a_declined_payment_leaves_it_open(shop: Shop) -> None:
    made = draft(shop, payer(shop, "pm_card_chargeCustomerFail"))
    with pytest.raises(stripe.CardError):
        shop.v1.invoices.pay(made.id)
    assert shop.v1.invoices.retrieve(made.id).status == "open"
    assert shop.types("invoice.payment_failed") == ["invoice.payment_failed"]


def test_an_invoice_paid_out_of_band_creates_no_payment(shop: Shop) -> None:
    made = draft(shop, payer(shop))
    assert shop.v1.invoices.pay(made.id, {"paid_out_of_band": True}).status == "paid"
    assert shop.types("charge", "invoice.payment_succeeded") == []


def test_fact_44_a_payment_record_reports_what_was_paid_out_of_band(shop: Shop) -> None:
    made = draft(shop, payer(shop, "pm_card_chargeCustomerFail"))
    with pytest.raises(stripe.CardError):
        shop.v1.invoices.pay(made.id)
    shop.v1.invoices.pay(made.id, {"paid_out_of_band": True})
    tried, record = sorted(
        shop.v1.invoice_payments.list({"invoice": made.id}).data, key=lambda each: each.status
    )
    assert (tried.status, tried.payment.type) == ("canceled", "payment_intent")
    assert (record.status, record.payment.type) == ("paid", "payment_record")
    assert (record.amount_paid, record.is_default) == (700, False)
    shop.settle()
    assert shop.types("invoice_payment") == ["invoice_payment.paid"]


@pytest.mark.parametrize("end", ["void", "uncollectible"])
def test_an_open_invoice_is_voided_or_marked_uncollectible(shop: Shop, end: str) -> None:
    made = draft(shop, payer(shop))
    shop.v1.invoices.finalize_invoice(made.id)
    give_up = {
        "void": shop.v1.invoices.void_invoice,
        "uncollectible": shop.v1.invoices.mark_uncollectible,
    }
    assert give_up[end](made.id).status == end


def test_pending_invoice_items_are_included_on_request(shop: Shop) -> None:
    customer = payer(shop)
    shop.v1.invoice_items.create({"customer": customer, "amount": 300, "currency": "usd"})
    given = {"customer": customer, "currency": "usd"}
    assert shop.v1.invoices.create(given).total == 0
    given["pending_invoice_items_behavior"] = "include"
    made = shop.v1.invoices.create(given)
    assert made.total == 300
    shop.v1.invoices.delete(made.id)
    waiting = shop.v1.invoice_items.list({"customer": customer, "pending": True})
    assert [item.amount for item in waiting.data] == [300]
