"""Billing credits: grants, balances, and how they pay for usage."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Shop
from sandbox.test_meters import meter, metered_price, report


@pytest.fixture
def customer(shop: Shop) -> str:
    return str(shop.v1.customers.create({"payment_method": "pm_card_visa"}).id)


def grant(shop: Shop, customer: str, value: int = 100, **given: Any) -> Any:
    return shop.v1.billing.credit_grants.create(
        {
            "customer": customer,
            "amount": {"type": "monetary", "monetary": {"currency": "usd", "value": value}},
            "applicability_config": {"scope": {"price_type": "metered"}},
            **given,
        }
    )


def balance(shop: Shop, customer: str) -> list[int]:
    found = shop.v1.billing.credit_balance_summary.retrieve(
        {
            "customer": customer,
            "filter": {
                "type": "applicability_scope",
                "applicability_scope": {"price_type": "metered"},
            },
        }
    )
    return [each.available_balance.monetary.value for each in found.balances]


def subscribed(shop: Shop, customer: str, price: str) -> str:
    method = shop.get("/v1/payment_methods", customer=customer)["data"][0]["id"]
    made = shop.v1.subscriptions.create(
        {"customer": customer, "items": [{"price": price}], "default_payment_method": method}
    )
    return str(made.id)


def test_credits_are_granted_listed_and_summed(shop: Shop, customer: str) -> None:
    first = grant(shop, customer, name="Welcome", category="promotional")
    grant(shop, customer, 250)
    assert (first.category, first.priority) == ("promotional", 50)
    assert balance(shop, customer) == [350]
    listed = shop.v1.billing.credit_grants.list({"customer": customer})
    assert [each.amount.monetary.value for each in listed.data] == [250, 100]
    assert (
        shop.types("billing.credit")
        == [
            "billing.credit_balance_transaction.created",
            "billing.credit_grant.created",
        ]
        * 2
    )


def test_fact_50_credits_pay_for_usage_and_the_rest_is_charged(shop: Shop, customer: str) -> None:
    grant(shop, customer, 100, priority=60)
    first = grant(shop, customer, 30, priority=10)
    price = metered_price(shop, meter(shop).id)
    subscription = subscribed(shop, customer, price.id)
    report(shop, customer, "10")
    shop.sandbox.control("renew", subscription=subscription)
    invoice = shop.get("/v1/invoices", subscription=subscription)["data"][0]
    assert (invoice["subtotal"], invoice["total"], invoice["amount_paid"]) == (200, 70, 70)
    assert [each["amount"] for each in invoice["total_pretax_credit_amounts"]] == [30, 100]
    assert balance(shop, customer) == [0]
    used = shop.v1.billing.credit_balance_transactions.list({"credit_grant": first.id})
    assert [each.type for each in used.data] == ["debit", "credit"]
    assert used.data[0].debit.credits_applied.invoice == invoice["id"]


def test_credits_of_a_voided_invoice_can_be_used_again(shop: Shop, customer: str) -> None:
    grant(shop, customer, 50)
    price = metered_price(shop, meter(shop).id)
    subscription = subscribed(shop, customer, price.id)
    report(shop, customer, "10")
    shop.sandbox.control("renew", subscription=subscription, outcome="failed")
    invoice = shop.get("/v1/invoices", subscription=subscription)["data"][0]
    assert (invoice["status"], invoice["amount_due"], balance(shop, customer)) == ("open", 150, [0])
    shop.v1.invoices.void_invoice(invoice["id"])
    assert balance(shop, customer) == [50]


def test_credits_don_t_pay_for_licensed_prices(shop: Shop, customer: str) -> None:
    grant(shop, customer, 5000)
    subscription = subscribed(shop, customer, shop.price(interval="month"))
    shop.sandbox.control("renew", subscription=subscription)
    newest = shop.get("/v1/invoices", subscription=subscription)["data"][0]
    assert newest["amount_paid"] == 1500
    assert balance(shop, customer) == [5000]


def test_a_grant_expires_or_is_voided(shop: Shop, customer: str) -> None:
    expired, voided = grant(shop, customer), grant(shop, customer)
    shop.v1.billing.credit_grants.expire(expired.id)
    assert shop.v1.billing.credit_grants.void_grant(voided.id).voided_at
    assert balance(shop, customer) == []
    with pytest.raises(stripe.InvalidRequestError, match="not active"):
        shop.v1.billing.credit_grants.expire(expired.id)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"customer": "cus_gone"}, "No such customer"),
        (
            {"applicability_config": {"scope": {"price_type": "metered", "prices": [{"id": "p"}]}}},
            "You must specify either",
        ),
        ({"expires_at": 1}, "must be in the future"),
        ({"priority": 101}, "between 0 and 100"),
    ],
)
def test_an_invalid_grant_is_rejected(
    shop: Shop, customer: str, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match=message):
        grant(shop, **{"customer": customer, **given})
