"""Refunds: full and partial, pending and failed."""

from __future__ import annotations

import pytest
import stripe

from sandbox.shop import Shop


def test_partial_refunds_add_up_to_the_whole(shop: Shop) -> None:
    intent = shop.paid()["payment_intent"]
    first = shop.v1.refunds.create({"payment_intent": intent, "amount": 500, "reason": "duplicate"})
    second = shop.v1.refunds.create({"charge": str(first.charge)})
    assert (first.status, second.amount) == ("succeeded", 1000)
    told = [event["data"]["object"] for event in shop.events("charge.refunded")]
    assert [(charge["amount_refunded"], charge["refunded"]) for charge in told] == [
        (500, False),
        (1500, True),
    ]
    charge = shop.v1.charges.retrieve(str(first.charge), {"expand": ["refunds"]})
    assert charge.refunds is not None
    assert [refund.id for refund in charge.refunds.data] == [second.id, first.id]


def test_fact_29_a_refund_emits_its_events_and_gets_its_reference_later(shop: Shop) -> None:
    intent = shop.paid()["payment_intent"]
    shop.settle()
    told = len(shop.events())
    refund = shop.v1.refunds.create({"payment_intent": intent, "metadata": {"why": "wish"}})
    shop.settle()
    assert shop.types()[told:] == [
        "refund.created",
        "charge.refunded",
        "refund.updated",
        "charge.refund.updated",
    ]
    found = shop.get(f"/v1/refunds/{refund.id}")
    assert found["destination_details"]["card"]["reference_status"] == "available"
    assert found["metadata"] == {"why": "wish"}


def test_some_cards_have_pending_refunds(shop: Shop) -> None:
    intent = shop.paid(card="pm_card_pendingRefund")["payment_intent"]
    refund = shop.v1.refunds.create({"payment_intent": intent})
    assert (refund.status, refund.pending_reason) == ("pending", "processing")
    shop.settle()
    assert shop.v1.refunds.retrieve(refund.id).status == "succeeded"


def test_fact_30_a_refund_may_fail_after_it_succeeded(shop: Shop) -> None:
    intent = shop.paid(card="pm_card_refundFail")["payment_intent"]
    refund = shop.v1.refunds.create({"payment_intent": intent})
    assert refund.status == "succeeded"
    shop.settle()
    failed = shop.v1.refunds.retrieve(refund.id)
    assert failed.status == "failed"
    assert failed.failure_reason
    assert failed.failure_balance_transaction
    assert "refund.failed" in shop.types("refund")
    charge = shop.v1.charges.retrieve(str(refund.charge))
    assert (charge.amount_refunded, charge.refunded) == (0, False)


def test_fact_31_a_refund_cannot_exceed_the_payment(shop: Shop) -> None:
    intent = shop.paid()["payment_intent"]
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded") as caught:
        shop.v1.refunds.create({"payment_intent": intent, "amount": 1501})
    assert caught.value.param == "amount"
    shop.v1.refunds.create({"payment_intent": intent})
    with pytest.raises(stripe.InvalidRequestError) as again:
        shop.v1.refunds.create({"payment_intent": intent})
    assert again.value.code == "charge_already_refunded"
    assert len(shop.get("/v1/refunds", payment_intent=intent)["data"]) == 1


def test_fact_27_refunds_and_charges_are_only_included_when_expanded(
    shop: Shop,
) -> None:
    name = shop.paid()["payment_intent"]
    shop.v1.refunds.create({"payment_intent": name, "amount": 100})
    intent = shop.get(f"/v1/payment_intents/{name}")
    assert "charges" not in intent
    plain = shop.get(f"/v1/charges/{intent['latest_charge']}")
    assert "refunds" not in plain
    expanded = shop.get(f"/v1/charges/{plain['id']}", **{"expand[]": "refunds"})
    assert [refund["amount"] for refund in expanded["refunds"]["data"]] == [100]


def test_fact_30_only_a_refund_that_waits_for_the_customer_can_be_canceled(shop: Shop) -> None:
    intent = shop.paid(card="pm_card_pendingRefund")["payment_intent"]
    refund = shop.v1.refunds.create({"payment_intent": intent})
    with pytest.raises(stripe.InvalidRequestError, match="status of pending"):
        shop.v1.refunds.cancel(refund.id)
    shop.sandbox.control("refund_action", refund=refund.id)
    waiting = shop.v1.refunds.retrieve(refund.id)
    assert waiting.status == "requires_action"
    assert waiting.next_action.type == "display_details"
    shop.settle()
    assert shop.v1.refunds.retrieve(refund.id).status == "requires_action"
    assert shop.v1.refunds.cancel(refund.id).status == "canceled"
    charge = shop.v1.charges.retrieve(str(refund.charge))
    assert (charge.amount_refunded, charge.refunded) == (0, False)
    assert sum(t["amount"] for t in shop.get("/v1/balance_transactions")["data"]) == 1500
    assert shop.v1.refunds.create({"payment_intent": intent}).amount == 1500
