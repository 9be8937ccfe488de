"""Changes of subscriptions: previewed, prorated, and waiting for their payment."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import Shop, wait_until

DAY = 86_400
BEGIN = 1_900_000_000
DECLINED = "pm_card_chargeCustomerFail"
ASKS = "pm_card_threeDSecure2Required"


class Plan:
    """A subscription on a test clock, ten days after its start."""

    def __init__(self, shop: Shop, amount: int = 3000, quantity: int = 1, **given: Any) -> None:
        self.shop = shop
        self.clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": BEGIN}).id
        card = {"payment_method": "pm_card_visa"}
        settings = {"invoice_settings": {"default_payment_method": "pm_card_visa"}}
        self.customer = shop.v1.customers.create({"test_clock": self.clock, **card, **settings}).id
        items = [{"price": shop.price(amount, interval="month"), "quantity": quantity}]
        made = shop.v1.subscriptions.create({"customer": self.customer, "items": items, **given})
        self.id = made.id
        self.wait(10)

    def wait(self, days: float) -> None:
        clocks = self.shop.v1.test_helpers.test_clocks
        clocks.advance(self.clock, {"frozen_time": self.now() + int(days * DAY)})
        wait_until(lambda: clocks.retrieve(self.clock).status == "ready")

    def now(self) -> int:
        return int(self.shop.v1.test_helpers.test_clocks.retrieve(self.clock).frozen_time)

    def get(self) -> Any:
        return self.shop.get(f"/v1/subscriptions/{self.id}")

    def item(self) -> Any:
        return self.get()["items"]["data"][0]

    def to(self, price: str | None = None, **given: Any) -> dict[str, Any]:
        """The parameters of a change."""
        item = {"id": self.item()["id"], **({"price": price} if price else {})}
        quantity = {"quantity": given.pop("quantity")} if "quantity" in given else {}
        return {"items": [{**item, **quantity}], **given}

    def change(self, price: str | None = None, **given: Any) -> Any:
        return self.shop.v1.subscriptions.update(self.id, self.to(price, **given))

    def preview(self, price: str | None = None, mode: str | None = None, **given: Any) -> Any:
        details = {"subscription_details": self.to(price, **given)}
        params = {"subscription": self.id, **details}
        return self.shop.v1.invoices.create_preview(
            params | ({"preview_mode": mode} if mode else {})
        )

    def card(self, token: str) -> None:
        card = self.shop.v1.payment_methods.attach(token, {"customer": self.customer}).id
        settings = {"invoice_settings": {"default_payment_method": card}}
        self.shop.v1.customers.update(self.customer, settings)

    def invoice(self) -> Any:
        return self.shop.get(f"/v1/invoices/{self.get()['latest_invoice']}")


@pytest.fixture
def plan(shop: Shop) -> Plan:
    return Plan(shop)


def amounts(invoice: Any) -> list[int]:
    return [line["amount"] for line in invoice["lines"]["data"]]


def test_a_preview_shows_exactly_what_an_immediate_change_bills(shop: Shop, plan: Plan) -> None:
    dear = shop.price(9000, interval="month")
    shop.settle()
    at, before, events = plan.now(), plan.get(), len(shop.events())
    shown = plan.preview(dear, proration_behavior="always_invoice")
    assert shown.id.startswith("upcoming_in_")
    assert shown.created == at
    assert shown.parent.subscription_details.subscription_proration_date == at
    assert (plan.get(), len(shop.events())) == (before, events), "a preview changes nothing"
    plan.wait(1)
    again = plan.preview(dear, proration_behavior="always_invoice", proration_date=at)
    assert amounts(again) == amounts(shown)
    later = plan.preview(dear, proration_behavior="always_invoice")
    assert later.amount_due < shown.amount_due
    plan.change(dear, proration_behavior="always_invoice", proration_date=at)
    billed = plan.invoice()
    assert amounts(billed) == amounts(shown)
    assert (billed["amount_paid"], billed["status"]) == (shown.amount_due, "paid")


def test_a_preview_of_the_next_invoice_is_what_the_renewal_bills(shop: Shop, plan: Plan) -> None:
    dear = shop.price(9000, interval="month")
    shown = plan.preview(dear)
    end = plan.item()["current_period_end"]
    assert (shown.created, shown.next_payment_attempt) == (end, end + 3600)
    assert shown.billing_reason == "upcoming"
    plan.change(dear, proration_date=shown.parent.subscription_details.subscription_proration_date)
    plan.wait((end - plan.now()) / DAY + 0.1)
    assert sorted(amounts(plan.invoice())) == sorted(amounts(shown))
    assert plan.invoice()["amount_paid"] == shown.amount_due


def test_a_new_interval_is_billed_at_once(shop: Shop, plan: Plan) -> None:
    yearly = shop.price(30_000, interval="year")
    shown = plan.preview(yearly)
    assert shown.created == plan.now()
    assert shown.amount_due < 30_000, "less what was left of the month"
    plan.change(yearly)
    assert plan.invoice()["amount_paid"] == shown.amount_due


def test_the_recurring_preview_has_no_prorations(shop: Shop, plan: Plan) -> None:
    dear = shop.price(9000, interval="month")
    assert amounts(plan.preview(dear, "recurring", proration_behavior="none")) == [9000]
    plan.change(quantity=2)
    assert amounts(plan.preview(mode="recurring", quantity=2, proration_behavior="none")) == [6000]
    assert plan.preview(quantity=2).amount_due > 6000


def test_a_credit_is_kept_on_the_balance_of_the_customer(shop: Shop) -> None:
    plan = Plan(shop, 9000)
    cheap = shop.price(900, interval="month")
    shown = plan.preview(cheap, proration_behavior="always_invoice")
    assert (shown.amount_due, shown.total < 0) == (0, True)
    assert shown.ending_balance == shown.total
    plan.change(cheap, proration_behavior="always_invoice", proration_date=plan.now())
    assert shop.v1.customers.retrieve(plan.customer).balance == shown.total


def test_nothing_is_upcoming_for_a_subscription_that_ends(shop: Shop, plan: Plan) -> None:
    shop.v1.subscriptions.update(plan.id, {"cancel_at_period_end": True})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        plan.preview(quantity=2, proration_behavior="none")
    assert (refused.value.code, refused.value.http_status) == ("invoice_upcoming_none", 404)
    final = plan.preview(quantity=2)
    assert final.amount_due == plan.preview(quantity=2, proration_behavior="always_invoice").total
    assert final.created == plan.item()["current_period_end"]


def test_all_lines_of_a_preview_can_be_listed(shop: Shop, plan: Plan) -> None:
    for number in range(12):
        price = shop.price(100 + number, interval="month")
        shop.v1.subscription_items.create({"subscription": plan.id, "price": price})
    shown = plan.preview(quantity=2)
    assert shown.lines.has_more
    lines = shop.v1.invoices.line_items.list(shown.id, {"limit": 100}).data
    assert sum(line.amount for line in lines) == shown.total
    with pytest.raises(stripe.InvalidRequestError):
        shop.v1.invoices.retrieve(shown.id)


def test_prorations_are_of_the_current_period(plan: Plan) -> None:
    end = plan.item()["current_period_end"]
    for change in (plan.change, plan.preview):
        with pytest.raises(stripe.InvalidRequestError) as refused:
            change(quantity=2, proration_date=end + 1)
        assert refused.value.param == "proration_date"
    with pytest.raises(stripe.InvalidRequestError):
        plan.preview(quantity=2, proration_behavior="none", proration_date=end - 1)


def test_a_new_price_resets_the_quantity(shop: Shop) -> None:
    plan = Plan(shop, quantity=4)
    dear = shop.price(9000, interval="month")
    plan.change(plan.item()["price"]["id"])
    assert plan.item()["quantity"] == 4
    plan.change(dear)
    assert plan.item()["quantity"] == 1
    plan.change(shop.price(100, interval="month"), quantity=3)
    assert plan.item()["quantity"] == 3


NOW = {"proration_behavior": "always_invoice"}


@pytest.mark.parametrize("card", [DECLINED, ASKS])
def test_a_change_that_must_be_paid_waits_for_its_payment(
    shop: Shop, plan: Plan, card: str
) -> None:
    plan.card(card)
    before = plan.item()
    dear = shop.price(9000, interval="month")
    changed = plan.change(dear, payment_behavior="pending_if_incomplete", **NOW)
    assert (changed.status, plan.item()) == ("active", before)
    assert changed.pending_update.expires_at == plan.now() + 23 * 3600
    assert plan.invoice()["status"] == "open"
    plan.card("pm_card_visa")
    shop.v1.invoices.pay(changed.latest_invoice)
    after = plan.get()
    assert after["pending_update"] is None
    assert plan.item()["price"]["id"] == dear
    assert shop.types("customer.subscription")[-1] == "customer.subscription.pending_update_applied"


def test_a_change_that_is_not_paid_lapses(shop: Shop, plan: Plan) -> None:
    plan.card(DECLINED)
    changed = plan.change(quantity=5, payment_behavior="pending_if_incomplete", **NOW)
    plan.wait(1)
    assert shop.v1.invoices.retrieve(changed.latest_invoice).status == "void"
    after = plan.get()
    assert (after["pending_update"], after["status"]) == (None, "active")
    assert plan.item()["quantity"] == 1
    assert shop.types("customer.subscription")[-1] == "customer.subscription.pending_update_expired"


def test_a_payment_that_succeeds_leaves_nothing_pending(shop: Shop, plan: Plan) -> None:
    changed = plan.change(quantity=2, payment_behavior="pending_if_incomplete", **NOW)
    assert changed.pending_update is None
    assert plan.item()["quantity"] == 2
    assert plan.invoice()["status"] == "paid"


@pytest.mark.parametrize(
    ("card", "code"),
    [(DECLINED, "card_declined"), (ASKS, "subscription_payment_intent_requires_action")],
)
def test_a_change_can_be_refused_unless_it_is_paid(
    shop: Shop, plan: Plan, card: str, code: str
) -> None:
    plan.card(card)
    before, events = plan.get(), len(shop.events())
    with pytest.raises(stripe.CardError) as refused:
        plan.change(quantity=2, payment_behavior="error_if_incomplete", **NOW)
    assert refused.value.code == code
    assert (plan.get(), len(shop.events())) == (before, events)
    plan.card("pm_card_visa")
    plan.change(quantity=2, payment_behavior="error_if_incomplete", **NOW)
    assert plan.item()["quantity"] == 2


def test_a_change_can_be_billed_for_the_app_to_confirm(shop: Shop, plan: Plan) -> None:
    changed = plan.change(quantity=2, payment_behavior="default_incomplete", **NOW)
    assert (changed.status, plan.item()["quantity"]) == ("past_due", 2)
    payments = shop.v1.invoice_payments.list({"invoice": changed.latest_invoice}).data
    (intent,) = [payment.payment.payment_intent for payment in payments]
    assert shop.v1.payment_intents.retrieve(intent).status == "requires_payment_method"
    shop.v1.invoices.pay(changed.latest_invoice)
    assert plan.get()["status"] == "active"


PENDING = {"payment_behavior": "pending_if_incomplete"}


def waiting(plan: Plan, **given: Any) -> Any:
    """A change that waits for its payment."""
    plan.card(DECLINED)
    return plan.change(quantity=5, **PENDING, **NOW, **given)


def test_a_customer_who_authenticates_gets_the_change(shop: Shop, plan: Plan) -> None:
    plan.card(ASKS)
    changed = plan.change(quantity=5, **PENDING, **NOW)
    payments = shop.v1.invoice_payments.list({"invoice": changed.latest_invoice}).data
    intent = payments[0].payment.payment_intent
    shop.sandbox.control("authenticate", intent=intent)
    assert (plan.item()["quantity"], plan.get()["pending_update"]) == (5, None)


def test_metadata_of_a_pending_change_is_merged_once_it_is_paid(shop: Shop, plan: Plan) -> None:
    shop.v1.subscriptions.update(plan.id, {"metadata": {"kept": "1", "seats": "1"}})
    changed = waiting(plan, metadata={"seats": "5"})
    assert changed.pending_update.metadata["seats"] == "5"
    assert plan.get()["metadata"] == {"kept": "1", "seats": "1"}
    shop.v1.subscriptions.update(plan.id, {"metadata": {"later": "1"}})
    plan.card("pm_card_visa")
    shop.v1.invoices.pay(changed.latest_invoice)
    assert plan.get()["metadata"] == {"kept": "1", "seats": "5", "later": "1"}


def test_voiding_its_invoice_cancels_a_pending_change(shop: Shop, plan: Plan) -> None:
    changed = waiting(plan)
    shop.v1.invoices.void_invoice(changed.latest_invoice)
    assert plan.get()["pending_update"] is None
    plan.wait(2)
    assert "customer.subscription.pending_update_expired" not in shop.types("customer")


def test_another_change_replaces_a_pending_one(shop: Shop, plan: Plan) -> None:
    first = waiting(plan)
    plan.card("pm_card_visa")
    changed = plan.change(quantity=2, **PENDING, **NOW)
    assert shop.v1.invoices.retrieve(first.latest_invoice).status == "void"
    assert (changed.pending_update, plan.item()["quantity"]) == (None, 2)
    credit, charge = amounts(plan.invoice())
    assert abs(2 * credit + charge) <= 1, "what was paid is credited, not what was voided"


def test_a_subscription_that_is_canceled_has_no_pending_change(shop: Shop, plan: Plan) -> None:
    waiting(plan)
    assert shop.v1.subscriptions.cancel(plan.id).pending_update is None
    plan.wait(2)
    assert shop.types("customer.subscription")[-1] == "customer.subscription.deleted"


def test_a_pending_item_is_returned_before_it_is_added(shop: Shop, plan: Plan) -> None:
    plan.card(DECLINED)
    price = shop.price(700, interval="month")
    item = shop.v1.subscription_items.create(
        {"subscription": plan.id, "price": price, **PENDING, **NOW}
    )
    assert item.price.id == price
    assert len(plan.get()["items"]["data"]) == 1
    pending = plan.get()["pending_update"]["subscription_items"]
    assert pending[-1]["id"] == item.id


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({"description": "x"}, 400),
        ({"cancel_at": 4_000_000_000}, 400),
        ({"discounts": ""}, 501),
        ({"trial_end": "now"}, 501),
    ],
)
def test_what_cannot_be_pending_is_refused_by_name(
    shop: Shop, plan: Plan, given: dict[str, Any], status: int
) -> None:
    with pytest.raises(stripe.StripeError) as refused:
        plan.change(quantity=2, **PENDING, **NOW, **given)
    (name,) = given
    assert (refused.value.http_status, getattr(refused.value.error, "param", None)) == (
        status,
        name,
    )


def test_only_updates_that_are_charged_can_be_pending(shop: Shop) -> None:
    sent = Plan(shop, collection_method="send_invoice", days_until_due=5)
    items = [{"price": shop.price(interval="month")}]
    with pytest.raises(stripe.InvalidRequestError, match="charge_automatically"):
        sent.change(quantity=2, **PENDING, **NOW)
    with pytest.raises(stripe.InvalidRequestError, match="only for updates"):
        shop.v1.subscriptions.create({"customer": sent.customer, "items": items, **PENDING})


def test_an_invoice_item_has_no_fields_of_another_kind(shop: Shop) -> None:
    """Stripe omits them; they are never null."""
    plan = Plan(shop)
    plan.change(quantity=2)  # credits a line of the first invoice
    plan.change(quantity=3)  # credits a pending invoice item
    shop.v1.invoice_items.create({"customer": plan.customer, "amount": 500, "currency": "eur"})
    items = shop.get("/v1/invoiceitems", customer=plan.customer)["data"]
    assert sorted("proration_details" in each for each in items) == [False, *4 * [True]]
    details = [each["proration_details"]["credited_items"] for each in items if each["proration"]]
    references = sorted(sorted(each) for each in details if each)
    assert references == [["invoice_item", "type"], ["invoice_line_item_details", "type"]]
