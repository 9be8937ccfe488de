"""Subscriptions from the first payment to cancellation."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from sandbox.shop import PURCHASE, Refused, Shop


def subscribe(shop: Shop, **given: Any) -> stripe.Subscription:
    return shop.v1.subscriptions.retrieve(shop.paid("subscription", **given)["subscription"])


def test_fact_11_subscribing_emits_its_events_in_stripes_order(shop: Shop) -> None:
    shop.paid("subscription")
    shop.settle()
    assert shop.types(*PURCHASE) == [
        "customer.created",
        "charge.succeeded",
        "payment_method.attached",
        "checkout.session.completed",
        "customer.updated",
        "customer.subscription.created",
        "payment_intent.succeeded",
        "payment_intent.created",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
        "charge.updated",
    ]


def test_fact_10_a_session_has_its_subscription_and_invoice_once_paid(shop: Shop) -> None:
    session = shop.session("subscription")
    assert (session.subscription, session.invoice) == (None, None)
    with pytest.raises(Refused, match="declined"):
        shop.pay(session.id, "pm_card_chargeDeclined")
    assert shop.get("/v1/subscriptions", status="all")["data"] == []
    paid = shop.pay(session.id)
    assert paid["subscription"].startswith("sub_")
    assert paid["invoice"].startswith("in_")
    assert paid["payment_intent"] is None


def test_fact_25_the_items_have_the_period_of_a_month(shop: Shop) -> None:
    subscription = shop.get(f"/v1/subscriptions/{subscribe(shop).id}")
    item = subscription["items"]["data"][0]
    days = (item["current_period_end"] - item["current_period_start"]) / 86400
    assert 28 <= days <= 31
    assert "current_period_end" not in subscription
    assert subscription["items"]["total_count"] == 1


def test_fact_13_metadata_is_copied_to_the_invoice_and_frozen(shop: Shop) -> None:
    subscription = subscribe(shop, subscription_data={"metadata": {"plan": "gold"}})
    shop.v1.subscriptions.update(subscription.id, {"metadata": {"plan": "silver"}})
    invoice = shop.get(f"/v1/invoices/{subscription.latest_invoice}")
    assert invoice["parent"]["subscription_details"]["metadata"] == {"plan": "gold"}
    assert invoice["metadata"] == {}


def test_fact_26_payments_of_an_invoice_are_only_included_when_expanded(shop: Shop) -> None:
    name = str(subscribe(shop).latest_invoice)
    assert "payments" not in shop.get(f"/v1/invoices/{name}")
    invoice = shop.v1.invoices.retrieve(name, {"expand": ["payments"]})
    assert invoice.payments is not None
    payment = invoice.payments.data[0]
    assert shop.v1.invoice_payments.list({"invoice": name}).data[0].id == payment.id
    by_intent = {"type": "payment_intent", "payment_intent": str(payment.payment.payment_intent)}
    found = shop.v1.invoice_payments.list({"payment": by_intent})
    assert found.data[0].id == payment.id
    assert invoice.lines.data[0].pricing is not None


def test_a_one_time_price_is_billed_with_the_first_invoice_only(shop: Shop) -> None:
    items = [
        {"price": shop.price(900, interval="month"), "quantity": 2},
        {"price": shop.price(5000), "quantity": 1},
    ]
    session = shop.paid("subscription", line_items=items)
    assert shop.v1.invoices.retrieve(session["invoice"]).amount_paid == 6800
    renewed = shop.sandbox.control("renew", subscription=session["subscription"])
    assert shop.v1.invoices.retrieve(renewed["latest_invoice"]).amount_paid == 1800


def test_facts_14_15_16_a_renewal_starts_the_period_before_it_is_paid(shop: Shop) -> None:
    subscription = subscribe(shop)
    end = shop.get(f"/v1/subscriptions/{subscription.id}")["items"]["data"][0]["current_period_end"]
    shop.settle()
    told = len(shop.events())
    renewed = shop.sandbox.control("renew", subscription=subscription.id)
    assert renewed["items"]["data"][0]["current_period_start"] == end
    shop.settle()
    events = shop.events()[told:]
    assert [event["type"] for event in events] == [
        "customer.subscription.updated",
        "invoice.created",
        "invoice.finalized",
        "charge.succeeded",
        "payment_intent.succeeded",
        "payment_intent.created",
        "invoice.paid",
        "invoice.payment_succeeded",
        "invoice_payment.paid",
        "charge.updated",
    ]
    draft = events[1]["data"]["object"]
    assert (draft["status"], draft["attempted"]) == ("draft", False)
    assert draft["billing_reason"] == "subscription_cycle"
    assert draft["automatically_finalizes_at"] == draft["created"] + 3600
    assert "items" in events[0]["data"]["previous_attributes"]


def test_fact_17_a_failed_renewal_makes_the_subscription_past_due_until_one_succeeds(
    shop: Shop,
) -> None:
    subscription = subscribe(shop)
    failed = shop.sandbox.control("renew", subscription=subscription.id, outcome="failed")
    assert failed["status"] == "past_due"
    invoice = shop.get(f"/v1/invoices/{failed['latest_invoice']}")
    assert (invoice["status"], invoice["attempt_count"]) == ("open", 1)
    assert invoice["next_payment_attempt"] > invoice["created"]
    assert shop.types("invoice.payment_failed", "charge.failed") == [
        "charge.failed",
        "invoice.payment_failed",
    ]
    last = shop.events("customer.subscription")[-1]["data"]["previous_attributes"]
    assert last == {"status": "active"}
    assert shop.sandbox.control("renew", subscription=subscription.id)["status"] == "active"


def test_fact_21_cancelling_at_the_end_of_the_period_takes_effect_then(shop: Shop) -> None:
    subscription = subscribe(shop)
    scheduled = shop.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    item = shop.get(f"/v1/subscriptions/{subscription.id}")["items"]["data"][0]
    assert scheduled.status == "active"
    assert scheduled.cancel_at == item["current_period_end"]
    asked = scheduled.canceled_at
    assert asked is not None
    now = shop.sandbox.control("advance", seconds=0)["now"]
    shop.sandbox.control("advance", seconds=item["current_period_end"] - now + 1)
    ended = shop.v1.subscriptions.retrieve(subscription.id)
    assert (ended.status, ended.canceled_at) == ("canceled", asked)
    assert ended.ended_at == item["current_period_end"]
    assert shop.types("customer.subscription")[-1] == "customer.subscription.deleted"


def test_a_resumed_subscription_continues(shop: Shop) -> None:
    subscription = subscribe(shop)
    shop.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    resumed = shop.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (resumed.cancel_at, resumed.canceled_at) == (None, None)
    shop.sandbox.control("advance", seconds=32 * 86400)
    assert shop.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_a_revoked_cancellation_does_not_end_a_later_period(shop: Shop) -> None:
    subscription = subscribe(shop)
    first = shop.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    shop.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    shop.sandbox.control("renew", subscription=subscription.id)
    later = shop.v1.subscriptions.update(subscription.id, {"cancel_at_period_end": True})
    assert later.cancel_at > first.cancel_at
    now = shop.sandbox.control("advance", seconds=0)["now"]
    shop.sandbox.control("advance", seconds=first.cancel_at - now + 1)
    assert shop.v1.subscriptions.retrieve(subscription.id).status == "active"


def test_fact_22_a_canceled_subscription_is_unlisted_and_frozen(shop: Shop) -> None:
    subscription = subscribe(shop)
    shop.v1.subscriptions.cancel(subscription.id)
    assert shop.types("customer.subscription")[1:] == ["customer.subscription.deleted"]
    assert shop.v1.subscriptions.list().data == []
    assert shop.v1.subscriptions.list({"status": "all"}).data[0].status == "canceled"
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.subscriptions.cancel(subscription.id)
    assert caught.value.http_status == 404
    with pytest.raises(stripe.InvalidRequestError, match="can only update"):
        shop.v1.subscriptions.update(subscription.id, {"description": "x"})
    shop.v1.subscriptions.update(subscription.id, {"metadata": {"kept": "yes"}})


def test_quantity_and_price_of_an_item_change_and_items_are_added(shop: Shop) -> None:
    subscription = shop.get(f"/v1/subscriptions/{subscribe(shop).id}")
    item = subscription["items"]["data"][0]
    dearer = shop.price(2900, interval="month")
    given = [
        {"id": item["id"], "price": dearer, "quantity": 3},
        {"price": shop.price(interval="month")},
    ]
    shop.v1.subscriptions.update(subscription["id"], {"items": given})
    found = shop.v1.subscription_items.list({"subscription": subscription["id"], "limit": 1})
    assert (found.data[0].price.id, found.data[0].quantity, found.has_more) == (dearer, 3, True)
    rest = shop.v1.subscription_items.list(
        {"subscription": subscription["id"], "starting_after": found.data[0].id}
    )
    assert len(rest.data) == 1
    assert shop.v1.subscriptions.list({"price": dearer}).data[0].id == subscription["id"]
    previous = shop.events("customer.subscription.updated")[0]["data"]["previous_attributes"]
    assert previous["items"]["data"][0]["quantity"] == 1


def test_more_than_ten_items_are_paged(shop: Shop) -> None:
    items = [{"price": shop.price(interval="month"), "quantity": 1} for _ in range(12)]
    subscription = shop.get(f"/v1/subscriptions/{subscribe(shop, line_items=items).id}")
    embedded = subscription["items"]
    assert (len(embedded["data"]), embedded["has_more"]) == (10, True)
    listed = shop.v1.subscription_items.list({"subscription": subscription["id"]})
    assert len(list(listed.auto_paging_iter())) == 12
    invoice = shop.v1.invoices.retrieve(subscription["latest_invoice"])
    assert (len(invoice.lines.data), invoice.amount_paid) == (10, 12 * 1500)
    assert len(list(shop.v1.invoices.line_items.list(invoice.id).auto_paging_iter())) == 12


def test_fact_23_deleting_a_customer_cancels_its_subscriptions(shop: Shop) -> None:
    subscription = subscribe(shop)
    shop.v1.customers.delete(str(subscription.customer))
    assert shop.v1.subscriptions.retrieve(subscription.id).status == "canceled"
    assert shop.types("customer.subscription.deleted", "customer.deleted") == [
        "customer.subscription.deleted",
        "customer.deleted",
    ]
