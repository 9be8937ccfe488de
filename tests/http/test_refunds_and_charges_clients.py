"""Refunds and charges by the Python clients and the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from billhook import ApiError, AsyncClient, Client
from buying import Buying, selling
from cli import Billhook
from http_tokens import ADMIN_KEY


@pytest.fixture
def shop(database_url: str, sandbox: str) -> Iterator[Buying]:
    with selling(database_url, sandbox) as found:
        yield found


@pytest.fixture
def command(shop: Buying, monkeypatch: pytest.MonkeyPatch, billhook: Billhook) -> Billhook:
    monkeypatch.setenv("BILLHOOK_URL", shop.api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    return billhook


def test_a_backend_refunds_and_charges(shop: Buying) -> None:
    mug = shop.price(1000)
    session = shop.paid((mug, 3))
    customer = shop.customer()
    with Client(shop.api.url, ADMIN_KEY) as client:
        preview = client.refunds.preview(
            "test", session.id, line_items=[{"price_id": mug, "quantity": 2}]
        )
        assert (preview.amount, preview.amount_left) == (2000, 3000)
        made = client.refunds.create(
            "test",
            session.id,
            line_items=[{"line_item_id": preview.line_items[0].line_item_id, "quantity": 1}],
            reason="duplicate",
            metadata={"ticket": "7"},
            idempotency_key="ticket-7",
        )
        assert (made.refund.status, made.refund.amount, made.repeated) == ("refunded", 1000, False)
        assert client.refunds.get("test", made.refund.refund_id).refund.reason == "duplicate"
        # Each call refunds, if it has no key of its own.
        for _ in range(2):
            assert not client.refunds.create("test", session.id, amount=100).repeated
        with pytest.raises(ApiError) as refused:
            client.refunds.create("test", session.id, amount=1801)
        assert (refused.value.status, refused.value.code) == (409, "PAYMENT_NOT_REFUNDABLE")
        with pytest.raises(ApiError) as canceled:
            client.refunds.cancel("test", made.refund.refund_id)
        assert canceled.value.status == 409
        charge = client.charges.create(
            "test", amount=700, currency="eur", customer_id=customer.id, idempotency_key="k"
        )
        assert charge.status == "succeeded"
        shop.control(
            "outcome", key=shop.key, card="pm_card_chargeCustomerFail", customer=customer.id
        )
        with pytest.raises(ApiError) as declined:
            client.charges.create(
                "test", amount=700, currency="eur", customer_id=customer.id, idempotency_key="k2"
            )
        assert (declined.value.status, declined.value.decline_code) == (402, "generic_decline")


def test_the_asynchronous_client_does_the_same(shop: Buying) -> None:
    session, customer = shop.paid(), shop.customer()

    async def work() -> tuple[int, str]:
        async with AsyncClient(shop.api.url, ADMIN_KEY) as client:
            made = await client.refunds.create("test", session.payment_intent)
            charge = await client.charges.create(
                "test", amount=700, currency="eur", customer_id=customer.id, idempotency_key="k"
            )
            return made.refund.amount, charge.status

    assert asyncio.run(work()) == (1500, "succeeded")


def test_a_refund_shows_what_will_happen_in_money_and_needs_a_yes(
    shop: Buying, command: Billhook
) -> None:
    mug = shop.price(1000)
    intent = shop.paid((mug, 3))["payment_intent"]
    asked = command("refunds", "create", intent, "--line", f"{mug}:2")
    assert asked.code == 2
    assert f"{intent}: 30.00 EUR paid." in asked.err
    assert f"2 × {mug}: 20.00 EUR" in asked.err
    assert "Refund 20.00 EUR (test)? 10.00 EUR will be left of the payment." in asked.err
    assert shop.v1.refunds.list({"payment_intent": intent}).data == []
    done = command("refunds", "create", intent, "--line", f"{mug}:2", "--yes")
    assert done.code == 0, done.err
    assert "20.00 EUR of 30.00 EUR" in done.out
    rest = command("refunds", "create", intent, "--yes", "--json")
    assert (rest.json["refund"]["amount"], rest.json["payment"]["status"]) == (1000, "refunded")
    shown = command("refunds", "get", rest.json["refund"]["refundId"])
    assert "10.00 EUR" in shown.out
    nothing = command("refunds", "create", intent, "--amount", "1")
    assert nothing.code == 1
    assert "Nothing is left to refund" in nothing.err
    canceled = command("refunds", "cancel", rest.json["refund"]["refundId"], "--yes", "--json")
    assert canceled.error["error"] == "PAYMENT_NOT_REFUNDABLE"


def test_what_was_confirmed_is_refunded_and_not_more(
    shop: Buying, command: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and the answer, more becomes refundable."""
    intent = shop.paid(card="pm_card_refundFail")["payment_intent"]
    shop.deliver()
    first = command("refunds", "create", intent, "--amount", "1000", "--yes")
    assert first.code == 0, first.err
    asked: list[str] = []

    def answers(question: str, yes: bool) -> None:
        asked.append(question)
        shop.settle()
        shop.deliver()  # the first refund has failed

    monkeypatch.setattr("billhook.cli.asking.confirm", answers)
    done = command("refunds", "create", intent, "--json")
    assert "Refund 5.00 EUR" in asked[0]
    assert done.json["refund"]["amount"] == 500


def test_the_same_key_on_the_command_line_refunds_once(shop: Buying, command: Billhook) -> None:
    intent = shop.paid()["payment_intent"]
    given = ("refunds", "create", intent, "--amount", "100", "--idempotency-key", "k", "--yes")
    first, again = command(*given, "--json"), command(*given)
    assert first.json["repeated"] is False
    assert "repeats an earlier request" in again.err
    assert [each.amount for each in shop.v1.refunds.list().data] == [100]


def test_a_charge_is_asked_for_and_says_where_the_customer_confirms(
    shop: Buying, command: Billhook
) -> None:
    customer = shop.customer("pm_card_authenticationRequired")
    given: tuple[str, ...] = (
        *("charge", "--customer", customer.id, "--amount", "1500", "--currency", "eur"),
        *("--return-url", "https://shop.example/back"),
    )
    asked = command(*given)
    assert asked.code == 2
    assert f"Charge {customer.id} 15.00 EUR (test)?" in asked.err
    done = command(*given, "--yes", "--idempotency-key", "k1")
    assert "requires_action" in done.out
    assert "/authenticate/pi_" in done.out
    assert "--idempotency-key k1" in done.err
    again = command(*given, "--yes", "--idempotency-key", "k1", "--json")
    assert again.json["status"] == "requires_action"
    assert command("charge", "--amount", "1", "--currency", "eur", "--yes").code == 2


def test_a_charge_that_may_have_happened_says_how_to_find_out(
    shop: Buying, command: Billhook
) -> None:
    customer = shop.customer()
    shop.lose_answer("/v1/payment_intents/pi_")
    given: Any = ("charge", "--customer", customer.id, "--amount", "900", "--currency", "eur", "-y")
    lost = command(*given, "--idempotency-key", "k9")
    assert lost.code == 1
    assert "--idempotency-key k9" in lost.err
    assert command(*given, "--idempotency-key", "k9", "--json").json["status"] == "succeeded"
    assert [each.amount for each in shop.v1.payment_intents.list().data] == [900]


@pytest.mark.parametrize("line", ["price_1:0", "price_1:x", "price_1:"])
def test_a_line_that_was_typed_wrong_asks_no_server(billhook: Billhook, line: str) -> None:
    ran = billhook("refunds", "create", "pi_1", "--line", line, "--yes")
    assert ran.code == 2
    assert "price_1QxYz:2" in ran.err
