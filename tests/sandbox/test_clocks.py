"""Subscriptions by API on test clocks: renewals, trials, retries, plan changes."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import stripe

from sandbox.shop import Shop, wait_until

DAY = 86400
BIRTH = 1_900_000_000


class Life(NamedTuple):
    shop: Shop
    clock: str
    customer: str

    def card(self, token: str) -> None:
        given = {"customer": self.customer}
        method = self.shop.v1.payment_methods.attach(token, given).id
        settings = {"invoice_settings": {"default_payment_method": method}}
        self.shop.v1.customers.update(self.customer, settings)

    def subscribe(self, amount: int = 1500, **given: Any) -> Any:
        items = [{"price": self.shop.price(amount, interval="month")}]
        given = {"customer": self.customer, "items": items, **given}
        return self.shop.v1.subscriptions.create(given)

    def advance(self, moment: int) -> None:
        clocks = self.shop.v1.test_helpers.test_clocks
        assert clocks.advance(self.clock, {"frozen_time": moment}).status == "advancing"
        wait_until(lambda: clocks.retrieve(self.clock).status == "ready")

    def subscription(self, name: str) -> Any:
        return self.shop.get(f"/v1/subscriptions/{name}")

    def end(self, name: str) -> int:
        return self.subscription(name)["items"]["data"][0]["current_period_end"]

    def invoices(self, **given: str) -> list[Any]:
        return self.shop.get("/v1/invoices", customer=self.customer, **given)["data"]


@pytest.fixture
def life(shop: Shop) -> Life:
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": BIRTH, "name": "life"})
    customer = shop.v1.customers.create({"test_clock": clock.id, "email": "a@example.com"})
    assert (customer.created, customer.test_clock) == (BIRTH, clock.id)
    found = Life(shop, clock.id, customer.id)
    found.card("pm_card_visa")
    return found


def test_a_subscription_by_api_is_active_and_paid_immediately(life: Life) -> None:
    made = life.subscribe(metadata={"plan": "gold"})
    assert (made.status, made.created, made.test_clock) == ("active", BIRTH, life.clock)
    invoice = life.invoices()[0]
    assert (invoice["id"], invoice["status"]) == (made.latest_invoice, "paid")
    told = life.shop.events("customer.subscription.created")[0]
    assert told["data"]["object"]["status"] == "active"
    assert told["created"] < BIRTH  # events keep real time
    assert invoice["parent"]["subscription_details"]["metadata"] == {"plan": "gold"}


def test_without_a_payment_method_no_subscription_is_created(shop: Shop) -> None:
    customer = shop.v1.customers.create({"name": "Ada"}).id
    items = [{"price": shop.price(interval="month")}]
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.subscriptions.create({"customer": customer, "items": items})
    assert (caught.value.http_status, caught.value.code) == (400, "resource_missing")
    assert shop.get("/v1/subscriptions", status="all")["data"] == []


def test_a_renewal_is_a_draft_for_an_hour_then_paid(life: Life) -> None:
    made = life.subscribe()
    boundary = life.end(made.id)
    life.advance(boundary)
    draft = life.invoices(status="draft")[0]
    assert (draft["created"], draft["automatically_finalizes_at"]) == (boundary, boundary + 3600)
    assert (draft["billing_reason"], draft["attempted"]) == ("subscription_cycle", False)
    assert life.end(made.id) > boundary
    life.advance(boundary + 3600)
    paid = life.invoices()[0]
    assert (paid["id"], paid["status"]) == (draft["id"], "paid")
    assert paid["status_transitions"]["paid_at"] == boundary + 3600


def test_a_failed_renewal_is_retried_eight_times_then_the_subscription_is_canceled(
    life: Life,
) -> None:
    made = life.subscribe()
    life.card("pm_card_chargeCustomerFail")
    boundary = life.end(made.id)
    life.advance(boundary + 3600)
    assert life.subscription(made.id)["status"] == "past_due"
    failed = life.invoices()[0]
    assert (failed["status"], failed["attempt_count"]) == ("open", 1)
    assert failed["next_payment_attempt"] > boundary
    life.advance(boundary + 20 * DAY)
    ended = life.subscription(made.id)
    assert (ended["status"], ended["cancellation_details"]["reason"]) == (
        "canceled",
        "payment_failed",
    )
    last = life.invoices()[0]
    assert (last["attempt_count"], last["next_payment_attempt"]) == (8, None)
    assert len(life.shop.types("invoice.payment_failed")) == 8


def test_fact_18_a_retry_with_a_good_card_makes_the_subscription_active_again(life: Life) -> None:
    made = life.subscribe()
    life.card("pm_card_chargeCustomerFail")
    boundary = life.end(made.id)
    life.advance(boundary + 3600)
    life.card("pm_card_visa")
    life.advance(life.invoices()[0]["next_payment_attempt"])
    assert life.subscription(made.id)["status"] == "active"
    assert (life.invoices()[0]["status"], life.invoices()[0]["attempt_count"]) == ("paid", 1)


@pytest.mark.parametrize("card", ["pm_card_chargeCustomerFail", "pm_card_threeDSecure2Required"])
def test_fact_19_a_first_payment_that_fails_leaves_it_incomplete_for_23_hours(
    life: Life, card: str
) -> None:
    life.card(card)
    made = life.subscribe()
    assert made.status == "incomplete"
    life.advance(BIRTH + 23 * 3600)
    assert life.subscription(made.id)["status"] == "incomplete_expired"
    assert life.invoices()[0]["status"] == "void"


def test_a_trial_is_free_and_billed_after_trial_will_end(life: Life) -> None:
    made = life.subscribe(trial_period_days=7)
    assert (made.status, made.trial_end) == ("trialing", BIRTH + 7 * DAY)
    assert (life.invoices()[0]["total"], life.invoices()[0]["status"]) == (0, "paid")
    life.advance(BIRTH + 4 * DAY)
    assert life.shop.types("customer.subscription.trial_will_end") != []
    life.advance(BIRTH + 7 * DAY + 3600)
    assert life.subscription(made.id)["status"] == "active"
    assert life.invoices()[0]["amount_paid"] == 1500


@pytest.mark.parametrize("behavior", ["create_prorations", "always_invoice", "none"])
def test_a_plan_change_is_billed_according_to_proration_behavior(life: Life, behavior: str) -> None:
    made = life.subscribe(3000)
    boundary = life.end(made.id)
    life.advance(BIRTH + (boundary - BIRTH) // 2)
    item = life.subscription(made.id)["items"]["data"][0]["id"]
    items = [{"id": item, "price": life.shop.price(6000, interval="month")}]
    given = {"items": items, "proration_behavior": behavior}
    life.shop.v1.subscriptions.update(made.id, given)
    now = {"create_prorations": 1, "always_invoice": 2, "none": 1}
    assert len(life.invoices()) == now[behavior]
    life.advance(boundary + 3600)
    amounts = [found["total"] for found in life.invoices()][::-1]
    expected = {
        "create_prorations": [3000, 7500],
        "always_invoice": [3000, 1500, 6000],
        "none": [3000, 6000],
    }
    assert amounts == expected[behavior]


def test_a_cheaper_plan_leaves_a_credit_that_the_next_invoice_uses(life: Life) -> None:
    made = life.subscribe(6000)
    boundary = life.end(made.id)
    life.advance(BIRTH + (boundary - BIRTH) // 2)
    item = life.subscription(made.id)["items"]["data"][0]["id"]
    items = [{"id": item, "price": life.shop.price(3000, interval="month")}]
    given = {"items": items, "proration_behavior": "always_invoice"}
    life.shop.v1.subscriptions.update(made.id, given)
    assert life.invoices()[0]["total"] == -1500
    assert life.shop.get(f"/v1/customers/{life.customer}")["balance"] == -1500
    life.advance(boundary + 3600)
    last = life.invoices()[0]
    assert (last["total"], last["amount_paid"], last["starting_balance"]) == (3000, 1500, -1500)
    assert life.shop.get(f"/v1/customers/{life.customer}")["balance"] == 0


def test_a_subscription_is_canceled_at_cancel_at(life: Life) -> None:
    made = life.subscribe()
    life.shop.v1.subscriptions.update(made.id, {"cancel_at": BIRTH + 5 * DAY})
    life.advance(BIRTH + 10 * DAY)
    ended = life.subscription(made.id)
    assert (ended["status"], ended["ended_at"]) == ("canceled", BIRTH + 5 * DAY)


def test_advancing_the_sandbox_renews_subscriptions(shop: Shop) -> None:
    name = shop.paid("subscription")["subscription"]
    end = shop.get(f"/v1/subscriptions/{name}")["items"]["data"][0]["current_period_end"]
    now = shop.sandbox.control("advance", seconds=0)["now"]
    shop.sandbox.control("advance", seconds=end - now + 3700)
    found = shop.get("/v1/invoices", subscription=name)["data"]
    assert [(one["status"], one["billing_reason"]) for one in found] == [
        ("paid", "subscription_cycle"),
        ("paid", "subscription_create"),
    ]


def test_items_are_added_changed_and_removed(life: Life) -> None:
    made = life.subscribe()
    price = life.shop.price(900, interval="month")
    given = {"subscription": made.id, "price": price, "quantity": 2}
    item = life.shop.v1.subscription_items.create(given)
    assert life.subscription(made.id)["items"]["total_count"] == 2
    assert life.shop.v1.subscription_items.update(item.id, {"quantity": 3}).quantity == 3
    assert life.shop.v1.subscription_items.delete(item.id).deleted
    assert life.subscription(made.id)["items"]["total_count"] == 1


def test_fact_20_deleting_a_clock_deletes_its_customers(life: Life) -> None:
    made = life.subscribe()
    life.shop.v1.test_helpers.test_clocks.delete(life.clock)
    assert life.shop.get(f"/v1/customers/{life.customer}")["deleted"]
    assert life.subscription(made.id)["status"] == "canceled"
    assert life.shop.v1.test_helpers.test_clocks.list().data == []


def test_a_clock_only_moves_forward_and_not_too_far(life: Life) -> None:
    life.subscribe()
    for moment in (BIRTH, BIRTH + 90 * DAY):
        with pytest.raises(stripe.InvalidRequestError) as caught:
            life.advance(moment)
        assert caught.value.param == "frozen_time"
