"""Usage on invoices: on previews, when an item or its period ends, and when a subscription ends."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Shop
from sandbox.test_meters import meter, metered_price, report
from sandbox.test_subscription_changes import DAY, Plan, amounts


class Usage(Plan):
    """A subscription with a licensed item of 30.00 and a metered one of 0.20 a unit, ten days after
    its start; seven units were used."""

    def __init__(self, shop: Shop, **given: Any) -> None:
        super().__init__(shop, **given)
        self.price = metered_price(shop, meter(shop).id).id
        added = {"subscription": self.id, "price": self.price}
        self.metered = shop.v1.subscription_items.create(added).id
        self.report(7)

    def report(self, units: int, at: int | None = None) -> None:
        report(self.shop, self.customer, str(units), timestamp=at or self.now())

    def invoices(self) -> list[Any]:
        found = self.shop.get("/v1/invoices", subscription=self.id)["data"]
        return [invoice for invoice in found if invoice["id"] != self.first][::-1]

    @property
    def first(self) -> str:
        return str(self.shop.get("/v1/invoices", subscription=self.id)["data"][-1]["id"])

    def to_end(self, days: float = 0.1) -> None:
        self.wait((self.item()["current_period_end"] - self.now()) / DAY + days)


@pytest.fixture
def usage(shop: Shop) -> Usage:
    return Usage(shop)


def test_a_preview_has_the_usage_so_far_and_the_renewal_bills_it(shop: Shop, usage: Usage) -> None:
    create = shop.v1.invoices.create_preview
    shown = create({"subscription": usage.id})
    assert sorted(amounts(shown)) == [140, 3000]
    (line,) = [line for line in shown.lines.data if line.amount == 140]
    assert line.quantity == 7
    assert line.period.end == usage.item()["current_period_end"]
    recurring = create({"subscription": usage.id, "preview_mode": "recurring"})
    assert sorted(amounts(recurring)) == [0, 3000]
    usage.to_end()
    (draft,) = usage.invoices()
    assert sorted(amounts(draft)) == [140, 3000]


def test_an_upcoming_invoice_has_the_usage_so_far(shop: Shop, usage: Usage) -> None:
    usage.wait(15)
    (event,) = shop.events("invoice.upcoming")
    assert event["data"]["object"]["total"] == 3140


def test_usage_before_a_metered_price_was_added_is_not_billed(shop: Shop, usage: Usage) -> None:
    usage.report(100, usage.now() - DAY)
    assert shop.v1.invoices.create_preview({"subscription": usage.id}).total == 3140


def test_a_removed_metered_item_is_billed_with_the_next_invoice(shop: Shop, usage: Usage) -> None:
    usage.wait(1)
    shop.v1.subscription_items.delete(usage.metered)
    usage.report(50)
    (pending,) = shop.get("/v1/invoiceitems", pending="true", customer=usage.customer)["data"]
    assert (pending["amount"], pending["quantity"], pending["proration"]) == (140, 7, False)
    usage.to_end()
    (draft,) = usage.invoices()
    assert sorted(amounts(draft)) == [140, 3000]


def test_a_metered_item_that_is_removed_without_prorations_is_not_billed(
    shop: Shop, usage: Usage
) -> None:
    shop.v1.subscription_items.delete(usage.metered, {"proration_behavior": "none"})
    usage.to_end()
    (draft,) = usage.invoices()
    assert amounts(draft) == [3000]


def test_usage_of_a_meter_cannot_be_cleared(shop: Shop, usage: Usage) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="clear_usage"):
        shop.v1.subscription_items.delete(usage.item()["id"], {"clear_usage": True})
    shop.v1.subscription_items.delete(usage.metered, {"clear_usage": True})
    (pending,) = shop.get("/v1/invoiceitems", pending="true", customer=usage.customer)["data"]
    assert pending["amount"] == 140


def test_each_metered_price_bills_the_usage_of_its_own_time(shop: Shop, usage: Usage) -> None:
    product = shop.v1.prices.retrieve(usage.price)
    dear = metered_price(shop, product.recurring.meter, unit_amount=100).id
    change = {"items": [{"id": usage.metered, "price": dear}]}
    now = {"proration_behavior": "always_invoice"}
    shown = shop.v1.invoices.create_preview(
        {"subscription": usage.id, "subscription_details": {**change, **now}}
    )
    assert amounts(shown) == [140]
    shop.v1.subscriptions.update(usage.id, {**change, **now})
    assert (amounts(usage.invoice()), usage.invoice()["status"]) == ([140], "paid")
    usage.report(3)
    usage.to_end()
    assert sorted(amounts(usage.invoices()[-1])) == [300, 3000]


def test_a_new_interval_bills_the_usage_of_the_period_it_cuts_short(
    shop: Shop, usage: Usage
) -> None:
    yearly = shop.price(30_000, interval="year")
    usage.change(yearly, proration_behavior="none")
    assert sorted(amounts(usage.invoice())) == [0, 140, 30_000]
    usage.report(3)
    usage.wait(32)
    assert amounts(usage.invoices()[-1]) == [60]


def test_canceling_discards_usage_unless_it_is_invoiced(shop: Shop) -> None:
    usage = Usage(shop)
    usage.wait(1)
    shop.v1.subscriptions.cancel(usage.id)
    usage.wait(40)
    assert usage.invoices() == []


def test_a_final_invoice_has_the_usage(shop: Shop, usage: Usage) -> None:
    canceled = shop.v1.subscriptions.cancel(usage.id, {"invoice_now": True})
    (final,) = usage.invoices()
    assert canceled.latest_invoice == final["id"]
    assert (amounts(final), final["status"], final["amount_paid"]) == ([140], "paid", 140)
    (event,) = shop.events("customer.subscription.deleted")
    assert event["data"]["object"]["latest_invoice"] == final["id"]


def test_a_final_invoice_credits_unused_time(shop: Shop, usage: Usage) -> None:
    usage.wait(1)
    shop.v1.subscriptions.cancel(usage.id, {"invoice_now": True, "prorate": True})
    (final,) = usage.invoices()
    credit, billed = amounts(final)
    assert billed == 140
    assert -2000 < credit < -1800, "20 of 31 days"
    assert final["amount_due"] == 0
    assert shop.v1.customers.retrieve(usage.customer).balance == credit + billed


def test_a_credit_waits_if_the_cancellation_is_not_invoiced(shop: Shop, usage: Usage) -> None:
    shop.v1.subscriptions.cancel(usage.id, {"prorate": True})
    assert usage.invoices() == []
    (pending,) = shop.get("/v1/invoiceitems", pending="true", customer=usage.customer)["data"]
    assert pending["amount"] < -1900
    credited = pending["proration_details"]["credited_items"]
    assert credited["invoice_line_item_details"]["invoice"] == usage.first


def test_a_cancellation_without_usage_or_prorations_is_not_invoiced(shop: Shop) -> None:
    plan = Plan(shop)
    shop.v1.subscriptions.cancel(plan.id, {"invoice_now": True})
    assert len(shop.get("/v1/invoices", subscription=plan.id)["data"]) == 1


def test_usage_is_billed_when_a_subscription_ends_with_its_period(shop: Shop, usage: Usage) -> None:
    shop.v1.subscriptions.update(usage.id, {"cancel_at_period_end": True})
    shown = shop.v1.invoices.create_preview({"subscription": usage.id})
    assert amounts(shown) == [140]
    end = usage.item()["current_period_end"]
    usage.to_end(0.01)
    assert usage.get()["status"] == "canceled"
    (draft,) = usage.invoices()
    assert (draft["status"], draft["total"]) == ("draft", 140)
    usage.report(2, end - 1)
    usage.wait(1)
    (final,) = usage.invoices()
    assert (final["status"], final["amount_paid"]) == ("paid", 180)


def test_usage_after_a_trial_is_billed_once(shop: Shop) -> None:
    usage = Usage(shop, trial_period_days=14)
    usage.to_end(0.01)
    usage.report(5)
    usage.wait(1)
    (first,) = usage.invoices()
    assert sorted(amounts(first)) == [0, 3000]
    usage.to_end()
    assert sorted(amounts(usage.invoices()[-1])) == [100, 3000]
