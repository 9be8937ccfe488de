"""docs/how-to/manage-subscriptions.md: its policies and its Python run as they stand there."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from api import Api
from http_tokens import ADMIN_KEY, USER, token
from pages import app_sql, block, blocks
from subscribers import MINE, OTHER, Subscriber, at_stripe, events, price, subscribe

PAGE = "docs/how-to/manage-subscriptions.md"
TEAM = {"type": "team", "id": "t_1"}


@pytest.fixture
def names(api: Api, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """An app with the policies of the docs; what the page's Python defines."""
    for sql in app_sql():
        api.books.execute(sql)
    api.books.execute(block(PAGE, "sql", "change_own_team"))
    api.books.execute(f"""
        INSERT INTO team_members VALUES ('t_1', '{USER}', 'owner'), ('t_1', '{OTHER}', 'member')""")
    monkeypatch.setenv("BILLHOOK_URL", api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    found: dict[str, Any] = {}
    for python in blocks(PAGE, "python"):
        exec(python, found)
    return found


@pytest.mark.parametrize("subject", [MINE, TEAM])
def test_users_and_owners_change_and_others_do_not(
    api: Api, names: dict[str, Any], subject: dict[str, str]
) -> None:
    mine = subscribe(api, price(api), subject=subject)
    operations: list[tuple[str, dict[str, Any]]] = [
        ("preview", {"quantity": 2}),
        ("change", {"quantity": 2}),
        ("cancel", {}),
        ("resume", {}),
    ]
    for operation, body in operations:
        other = mine.send(operation, token(OTHER), **body)
        assert other.status_code == (404 if subject == MINE else 403)
        assert mine.send(operation, **body).status_code == 200
    assert mine.send("pause", behavior="void").status_code == 403


def test_only_some_prices_are_offered(api: Api, names: dict[str, Any]) -> None:
    offered, internal = price(api), price(api, 1)
    sql = block(PAGE, "sql", "RESTRICTIVE").replace("price_team_monthly", offered)
    api.books.execute(sql)
    mine = subscribe(api, price(api))
    assert mine.send("change", priceId=internal).status_code == 403
    assert mine.send("preview", priceId=internal).status_code == 403
    assert mine.send("change", priceId=offered).status_code == 200
    assert mine.send("cancel").status_code == 200


def test_seats_are_offered_and_bought(api: Api, names: dict[str, Any]) -> None:
    mine = subscribe(api, price(api, 3000))
    cost = names["offer_seats"](token(), mine.id, 5)
    assert (cost["per_period"], cost["currency"]) == (15_000, "eur")
    page = names["change_seats"](token(), mine.id, 5, cost["proration_date"], "seats-1")
    assert page is None
    assert mine.mirrored()["items"][0]["quantity"] == 5
    invoice = at_stripe(api, f"invoices/{mine.at_stripe()['latest_invoice']}")
    assert invoice["amount_paid"] == cost["due_now"]


def test_a_payment_that_needs_the_user_has_a_page(api: Api, names: dict[str, Any]) -> None:
    mine = subscribe(api, price(api, 3000))
    card = api.stripe.v1.payment_methods.attach(
        "pm_card_threeDSecure2Required", {"customer": mine.customer}
    ).id
    api.stripe.v1.customers.update(
        mine.customer, {"invoice_settings": {"default_payment_method": card}}
    )
    cost = names["offer_seats"](token(), mine.id, 5)
    page = names["change_seats"](token(), mine.id, 5, cost["proration_date"], "seats-1")
    assert page.startswith("https://invoice.stripe.com/")
    assert mine.mirrored()["items"][0]["quantity"] == 1


def test_a_user_cancels_and_stays(api: Api, names: dict[str, Any]) -> None:
    mine = subscribe(api, price(api))
    assert names["cancel"](token(), mine.id, "moving away").startswith("You can use it until")
    assert mine.mirrored()["cancelAtPeriodEnd"] is True
    names["keep"](token(), mine.id)
    assert mine.mirrored()["endsAt"] is None


def test_a_server_grants_a_break(api: Api, names: dict[str, Any]) -> None:
    mine = subscribe(api, price(api))
    names["grant_a_break"](mine.id)
    shown = mine.mirrored()
    assert (shown["status"], shown["pauseCollection"]["behavior"]) == ("active", "void")


def test_a_user_is_sent_to_stripes_page_and_back(api: Api, names: dict[str, Any]) -> None:
    mine: Subscriber = subscribe(api, price(api))
    url = names["cancel_at_stripe"](token(), USER, mine.id)
    submitted = httpx.post(url, data={"action": "cancel"}, timeout=60)
    assert submitted.headers["location"] == "https://app.example/billing?canceled"
    assert events(api, mine.id)[-1]["data"]["object"]["cancel_at_period_end"] is True
