"""The server killed between any two messages that it and PostgreSQL exchange, while it refunds or
charges: the repeated request moves the money once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx
import pytest
import stripe
from doomed import Server, doomed
from test_kill_anywhere import ADMIN, BASE, moments

from api import connect

Asking = Callable[[httpx.Client], httpx.Response]


@pytest.fixture
def server(database_url: str, sandbox: str) -> Iterator[Server]:
    with doomed(database_url, sandbox) as found:
        yield found


@pytest.fixture
def account(database_url: str, sandbox: str) -> stripe.StripeClient:
    key = f"sk_test_{uuid4().hex}"
    connect(database_url, sandbox, key)
    return stripe.StripeClient(key, base_addresses={"api": sandbox})


def paid(account: stripe.StripeClient) -> str:
    given: Any = {
        "amount": 1500,
        "currency": "eur",
        "payment_method": "pm_card_visa",
        "confirm": True,
    }
    return str(account.v1.payment_intents.create(given).id)


@pytest.mark.parametrize("keyed", [True, False])
def test_a_payment_is_refunded_once_wherever_it_is_interrupted(
    server: Server, account: stripe.StripeClient, *, keyed: bool
) -> None:
    intents: list[str] = []

    def refund() -> Asking:
        intents.append(paid(account))
        body: dict[str, Any] = {"payment": intents[-1], "amount": 600}
        if keyed:
            body["idempotencyKey"] = f"refund {len(intents)}"
        return lambda http: http.post(f"{BASE}/refunds", json=body, headers=ADMIN)

    for at, half in moments(server.messages_of(refund())):
        answer = server.interrupted(refund(), at, half=half)
        assert answer.status_code == 201, (at, half, answer.text)
        assert answer.json()["payment"]["amountRefunded"] == 600
    assert len(intents) > 5
    for intent in intents:
        assert [r.amount for r in account.v1.refunds.list({"payment_intent": intent}).data] == [600]
    rows = server.books.rows(
        "SELECT status, amount FROM payments.transactions WHERE type = 'refund'"
    )
    assert rows == [{"status": "refunded", "amount": 600}] * len(intents)
    requests = server.books.rows("SELECT status FROM billhook.refund_requests")
    assert requests == [{"status": "created"}] * len(intents)


@pytest.mark.parametrize("card", ["pm_card_visa", "pm_card_authenticationRequired"])
def test_a_customer_is_charged_once_wherever_it_is_interrupted(
    server: Server, account: stripe.StripeClient, sandbox: str, card: str
) -> None:
    customer = str(account.v1.customers.create({}).id)
    method = account.v1.payment_methods.attach(card, {"customer": customer})
    authenticates = card != "pm_card_visa"
    numbers = itertools.count(1)

    def charge() -> Asking:
        body = {
            "customerId": customer,
            "paymentMethodId": method.id,
            "amount": 700,
            "currency": "eur",
            "returnUrl": "https://shop.example/back",
            "idempotencyKey": f"charge {next(numbers)}",
        }
        return lambda http: http.post(f"{BASE}/charges", json=body, headers=ADMIN)

    charged = 1
    for at, half in moments(server.messages_of(charge())):
        answer = server.interrupted(charge(), at, half=half)
        assert answer.status_code == 201, (at, half, answer.text)
        found = answer.json()["charge"]
        assert found["status"] == ("requires_action" if authenticates else "succeeded")
        assert bool(found["confirmUrl"]) == authenticates
        charged += 1
    assert charged > 5
    intents = list(account.v1.payment_intents.list({"limit": 100}).auto_paging_iter())
    live = [each for each in intents if each.status != "requires_confirmation"]
    # One that was created and not stored was never confirmed.
    assert len(live) == charged
    assert {each.status for each in live} == {"requires_action" if authenticates else "succeeded"}
    rows = server.books.rows("SELECT status, amount FROM payments.transactions")
    shown = {"status": "failed" if authenticates else "succeeded", "amount": 700}
    # Where the server died after the attempt, its event has yet to report that it failed.
    assert rows == [shown] * len(rows)
    assert len(rows) == charged or authenticates
