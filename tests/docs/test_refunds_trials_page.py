"""docs/how-to/refunds-trials-coupons-tax.md: its SQL and Python run as they stand there."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, TypeVar
from uuid import uuid4

import asyncpg
import pytest
import stripe

import aside
from billhook_sandbox.testing import Sandbox
from books import Books
from pages import app_sql, block, blocks

PAGE = "docs/how-to/refunds-trials-coupons-tax.md"
T = TypeVar("T")


@pytest.fixture
def shop(database_url: str) -> Books:
    """An app with orders and their triggers."""
    books = Books(database_url)
    for sql in app_sql():
        books.execute(sql)
    books.execute("INSERT INTO orders VALUES ('1001', 'test', 1500, 'eur')")
    return books


@pytest.fixture
def account(sandbox: str) -> Sandbox:
    """An account of its own in the shared sandbox."""
    return Sandbox(sandbox, f"sk_test_{uuid4().hex}")


@pytest.fixture
def server(account: Sandbox, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page's Python defines."""
    monkeypatch.setenv("STRIPE_SECRET_KEY", account.key)
    names: dict[str, Any] = {}
    for python in blocks(PAGE, "python"):
        exec(python, names)
        if "client" in names:
            names["client"] = account.client
    return names


def connected(books: Books, work: Callable[[asyncpg.Connection[Any]], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        connection = await asyncpg.connect(books.dsn, statement_cache_size=0)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return aside.run(run())


def apply_new(account: Sandbox, books: Books) -> None:
    for answer in books.apply(*(each.event for each in account.webhooks(secret="whsec_1"))):
        assert not isinstance(answer, Exception), answer


def order(books: Books) -> dict[str, Any]:
    return books.row("SELECT status FROM orders")


def price(account: Sandbox, **more: Any) -> str:
    given: Any = {"currency": "eur", "unit_amount": 1500, "product_data": {"name": "Tea"}, **more}
    return str(account.client.v1.prices.create(given).id)


def checkout(account: Sandbox, price_id: str, **more: Any) -> stripe.checkout.Session:
    given: Any = {
        "mode": "payment",
        "line_items": [{"price": price_id, "quantity": 1}],
        "success_url": "https://shop.example/done",
        "metadata": {"order_id": "1001"},
        **more,
    }
    return account.client.v1.checkout.sessions.create(given)


def opened_by(
    books: Books, account: Sandbox, create: Callable[..., Any], price_id: str, order_id: str
) -> str:
    async def work(connection: asyncpg.Connection[Any]) -> str:
        # The SDK's asynchronous client belongs to one event loop.
        create.__globals__["client"] = stripe.StripeClient(
            account.key, base_addresses={"api": account.url}
        )
        return str(await create(connection, "test", "u_1", order_id, price_id))

    return connected(books, work)


def test_an_own_checkout_with_a_promotion_code_is_recorded(
    shop: Books, account: Sandbox, server: dict[str, Any]
) -> None:
    tea = price(account)
    opening = partial(opened_by, shop, account, server["checkout_with_codes"], tea)
    url = opening("1001")
    (opened,) = account.client.v1.checkout.sessions.list().data
    assert opened.url == url
    assert opened.allow_promotion_codes
    account.pay(opened.id)
    apply_new(account, shop)
    mapped = shop.row("SELECT subject_type, subject_id FROM payments.customer_mappings")
    assert mapped == {"subject_type": "user", "subject_id": "u_1"}
    paid = shop.row("SELECT subject_id, amount FROM payments.transactions")
    assert paid == {"subject_id": "u_1", "amount": 1500}
    assert order(shop)["status"] == "paid"
    assert shop.rows("SELECT FROM payments.stripe_checkout_sessions") == []
    # The customer is used again.
    opening("1002")
    customers = {each.customer for each in account.client.v1.checkout.sessions.list().data}
    assert len(customers) == 1


@pytest.mark.parametrize(("subtotal", "status"), [(False, "pending"), (True, "paid")])
def test_a_discounted_order_is_fulfilled_if_the_subtotal_is_compared(
    shop: Books, account: Sandbox, *, subtotal: bool, status: str
) -> None:
    if subtotal:
        shop.execute(block(PAGE, "sql", "amount_subtotal"))
    coupon = account.client.v1.coupons.create({"percent_off": 20, "duration": "once"})
    account.pay(checkout(account, price(account), discounts=[{"coupon": coupon.id}]).id)
    apply_new(account, shop)
    assert order(shop)["status"] == status
    assert shop.row("SELECT amount FROM payments.transactions") == {"amount": 1200}


def test_a_trial_by_api_is_recorded_and_found_before_it_ends(
    shop: Books, account: Sandbox, server: dict[str, Any]
) -> None:
    customer = account.client.v1.customers.create({"email": "ada@example.com"})
    plan = price(account, recurring={"interval": "month"})
    assert server["start_trial"](customer.id, plan, "t_1").status == "trialing"
    apply_new(account, shop)
    mapped = shop.row("SELECT subject_id, provider_customer_id FROM payments.customer_mappings")
    assert mapped == {"subject_id": "t_1", "provider_customer_id": customer.id}
    reminders = block(PAGE, "sql", "trial_end BETWEEN").replace("'live'", "'test'")
    assert shop.rows(reminders) == []
    (found,) = shop.rows(reminders.replace("now()", "now() + interval '11 days 12 hours'"))
    assert (found["team_id"], found["email"]) == ("t_1", "ada@example.com")


def test_the_parts_of_invoices_are_read(shop: Books, account: Sandbox) -> None:
    card = "pm_card_visa"
    customer = account.client.v1.customers.create(
        {"payment_method": card, "invoice_settings": {"default_payment_method": card}}
    )
    plan = price(account, recurring={"interval": "month"})
    account.client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": plan}]})
    account.settle()
    apply_new(account, shop)
    (found,) = shop.rows(block(PAGE, "sql", "total_taxes").replace("'live'", "'test'"))
    assert (found["total"], found["subtotal"]) == (1500, "1500")
