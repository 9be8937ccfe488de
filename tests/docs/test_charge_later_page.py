"""docs/how-to/charge-later.md: its Python, SQL and command run as they stand there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

import aside
from buying import Buying, selling
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from pages import block, blocks

__all__ = ["billhook"]

PAGE = "docs/how-to/charge-later.md"


@pytest.fixture
def shop(database_url: str, sandbox: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Buying]:
    with selling(database_url, sandbox) as found:
        found.api.books.execute(block(PAGE, "sql", "usage_was_paid"))
        monkeypatch.setenv("BILLHOOK_URL", found.api.url)
        monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
        yield found


@pytest.fixture
def server(shop: Buying) -> dict[str, Any]:
    """The names that the page's Python defines."""
    names: dict[str, Any] = {}
    for python in blocks(PAGE, "python"):
        exec(python, names)
    return names


def team(shop: Buying, name: str, card: str = "pm_card_visa") -> str:
    """A team that has subscribed; its customer."""
    given: Any = {
        "mode": "subscription",
        "line_items": [{"price": shop.price(900, recurring={"interval": "month"}), "quantity": 1}],
        "success_url": "https://app.example/done",
        "metadata": {"insforge_subject_type": "team", "insforge_subject_id": name},
    }
    session = shop.v1.checkout.sessions.create(given)
    shop.control("pay", session=session.id)
    customer = str(shop.v1.checkout.sessions.retrieve(session.id).customer)
    method = shop.v1.payment_methods.attach(card, {"customer": customer})
    settings: Any = {"default_payment_method": method.id}
    shop.v1.customers.update(customer, {"invoice_settings": settings})
    shop.settle()
    shop.deliver()
    return customer


def usage(shop: Buying) -> list[dict[str, Any]]:
    return shop.api.books.rows("SELECT team_id, month, amount FROM usage_paid")


def shown(shop: Buying) -> list[dict[str, Any]]:
    return shop.api.books.rows(
        "SELECT status, subject_id, amount FROM payments.transactions WHERE amount = 2500"
    )


def test_usage_is_charged_once_and_the_trigger_sees_it(
    shop: Buying, server: dict[str, Any]
) -> None:
    team(shop, "t_42")
    for _ in range(2):
        charged = aside.run(server["charge_usage"]("t_42", "2026-05", 2500))
        assert charged == ("succeeded", None)
        assert shown(shop) == [{"status": "succeeded", "subject_id": "t_42", "amount": 2500}]
    assert usage(shop) == []
    shop.deliver()
    assert usage(shop) == [{"team_id": "t_42", "month": "2026-05", "amount": 2500}]


def test_a_customer_who_must_authenticate_gets_a_link(shop: Buying, server: dict[str, Any]) -> None:
    team(shop, "t_1", "pm_card_authenticationRequired")
    status, link = aside.run(server["charge_usage"]("t_1", "2026-05", 2500))
    assert status == "requires_action"
    assert [row["status"] for row in shown(shop)] == ["failed"]
    httpx.post(link, data={"decision": "confirmed"})
    assert aside.run(server["charge_usage"]("t_1", "2026-05", 2500)) == ("succeeded", None)
    assert [row["status"] for row in shown(shop)] == ["succeeded"]


def test_a_decline_has_the_banks_reason(shop: Buying, server: dict[str, Any]) -> None:
    customer = team(shop, "t_1")
    card = "pm_card_chargeDeclinedInsufficientFunds"
    shop.control("outcome", key=shop.key, card=card, customer=customer)
    charged = aside.run(server["charge_usage"]("t_1", "2026-05", 2500))
    assert charged == ("declined", "insufficient_funds")


def test_the_command_charges(
    shop: Buying, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", shop.api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    team(shop, "t_42")
    (line,) = block(PAGE, "sh", "billhook charge").splitlines()
    ran = billhook(*line.split()[1:])
    assert ran.code == 0, ran.err
    assert "succeeded" in ran.out
    assert "15.00 EUR" in ran.out
