"""Disputes, balance transactions, and the sum of the balance."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
import stripe

from sandbox.shop import Refused, Shop


def paid(shop: Shop, card: str, amount: int = 2000, **given: Any) -> Any:
    payment = {"amount": amount, "currency": "usd", "payment_method": card, "confirm": True}
    return shop.v1.payment_intents.create({**payment, **given})


def dispute_of(shop: Shop, intent: str) -> Any:
    return shop.v1.disputes.list({"payment_intent": intent}).data[0]


def everything(shop: Shop, path: str) -> list[Any]:
    found = shop.get(path, limit="100")
    assert not found["has_more"]
    data: list[Any] = found["data"]
    return data


@pytest.mark.parametrize(
    ("text", "status", "amounts"),
    [
        ("winning_evidence", "won", [-2000, 2000]),
        ("losing_evidence", "lost", [-2000]),
    ],
)
def test_a_dispute_gets_evidence_and_is_decided(
    shop: Shop, text: str, status: str, amounts: list[int]
) -> None:
    intent = paid(shop, "pm_card_createDispute").id
    dispute = dispute_of(shop, intent)
    assert (dispute.status, dispute.amount) == ("needs_response", 2000)
    answered = shop.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": text}})
    assert answered.status == "under_review"
    shop.settle()
    ended = shop.v1.disputes.retrieve(dispute.id)
    assert ended.status == status
    assert [booked.amount for booked in ended.balance_transactions] == amounts
    assert sum(booked.fee for booked in ended.balance_transactions) == (
        0 if status == "won" else 1500
    )
    told = shop.types("charge.dispute")
    assert told[:4] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.updated",
        "charge.dispute.closed",
    ]
    assert told[4:] == (["charge.dispute.funds_reinstated"] if status == "won" else [])


def test_a_disputed_charge_cannot_be_refunded(shop: Shop) -> None:
    intent = paid(shop, "pm_card_createDispute").id
    with pytest.raises(stripe.InvalidRequestError) as caught:
        shop.v1.refunds.create({"payment_intent": intent})
    assert caught.value.code == "charge_disputed"
    shop.v1.disputes.close(dispute_of(shop, intent).id)
    with pytest.raises(stripe.InvalidRequestError, match="no longer accepts evidence"):
        shop.v1.disputes.close(dispute_of(shop, intent).id)


def test_an_inquiry_withdraws_no_funds(shop: Shop) -> None:
    intent = paid(shop, "pm_card_createDisputeInquiry").id
    dispute = dispute_of(shop, intent)
    assert dispute.status == "warning_needs_response"
    assert dispute.balance_transactions == []
    assert shop.v1.disputes.close(dispute.id).status == "warning_closed"
    assert shop.v1.refunds.create({"payment_intent": intent}).status == "succeeded"


def test_a_checkout_payment_can_be_disputed(shop: Shop) -> None:
    intent = shop.paid(card="pm_card_createDispute")["payment_intent"]
    assert dispute_of(shop, intent).amount == 1500


def test_the_balance_is_pending_for_two_days(shop: Shop) -> None:
    paid(shop, "pm_card_visa")
    paid(shop, "pm_card_bypassPending", 1000)
    shop.settle()
    balance = shop.v1.balance.retrieve()
    assert [(f.amount, f.currency) for f in balance.pending] == [(2000 - 88, "usd")]
    assert [f.amount for f in balance.available] == [1000 - 59]
    assert shop.types("balance") == ["balance.available"]
    shop.sandbox.control("advance", seconds=2 * 86400)
    assert shop.v1.balance.retrieve().pending[0].amount == 0


def random_life(shop: Shop, dice: Random) -> None:
    cards = [
        "pm_card_visa",
        "pm_card_refundFail",
        "pm_card_pendingRefund",
        "pm_card_createDispute",
        "pm_card_createDisputeInquiry",
        "pm_card_chargeDeclined",
    ]
    for _ in range(25):
        manual = {"capture_method": "manual"} if dice.random() < 0.3 else {}
        try:
            if dice.random() < 0.3:
                intent = shop.paid(card=dice.choice(cards))["payment_intent"]
            else:
                intent = paid(shop, dice.choice(cards), dice.randint(50, 9999), **manual).id
        except (stripe.CardError, Refused):
            continue
        if manual and shop.v1.payment_intents.retrieve(intent).status == "requires_capture":
            do = dice.choice([shop.v1.payment_intents.capture, shop.v1.payment_intents.cancel])
            do(intent)
        for dispute in shop.v1.disputes.list({"payment_intent": intent}).data:
            text = dice.choice(["winning_evidence", "losing_evidence"])
            shop.v1.disputes.update(dispute.id, {"evidence": {"uncategorized_text": text}})
        try:
            for _ in range(dice.randint(0, 2)):
                shop.v1.refunds.create({"payment_intent": intent, "amount": dice.randint(1, 50)})
        except stripe.InvalidRequestError:
            pass
        if dice.random() < 0.3:
            shop.settle()


@pytest.mark.parametrize("seed", [1, 2])
def test_balance_transactions_are_charges_less_refunds_less_disputes(shop: Shop, seed: int) -> None:
    random_life(shop, Random(seed))
    shop.settle()
    charges = everything(shop, "/v1/charges")
    refunds = everything(shop, "/v1/refunds")
    disputes = everything(shop, "/v1/disputes")
    booked = everything(shop, "/v1/balance_transactions")
    assert refunds
    assert {d["status"] for d in disputes} >= {"won", "lost"}
    kept = sum(refund["amount"] for refund in refunds if refund["status"] != "failed")
    lost = sum(dispute["amount"] for dispute in disputes if dispute["status"] == "lost")
    taken = sum(charge["amount_captured"] for charge in charges if charge["paid"])
    assert sum(one["amount"] for one in booked) == taken - kept - lost
    assert all(one["net"] == one["amount"] - one["fee"] for one in booked)
    balance = shop.v1.balance.retrieve()
    funds = [*balance.available, *balance.pending]
    assert sum(part.amount for part in funds) == sum(one["net"] for one in booked)
    returned = sum(c["amount_refunded"] for c in charges if c["captured"])
    assert returned == kept
    shop.get("/v1/balance_transactions", limit="100", **{"expand[]": "data.source"})
