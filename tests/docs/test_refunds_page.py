"""docs/how-to/refunds.md: its Python, SQL and commands run as they stand there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, TypeVar

import asyncpg
import pytest

import aside
from books import Books
from buying import Buying, selling
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY
from pages import app_sql, block, blocks
from stripe_events import charge, event, refund, session

__all__ = ["billhook"]

PAGE = "docs/how-to/refunds.md"
T = TypeVar("T")


@pytest.fixture
def books(database_url: str) -> Books:
    """An app with orders and their triggers."""
    found = Books(database_url)
    for sql in app_sql():
        found.execute(sql)
    found.execute(block(PAGE, "sql", "CREATE FUNCTION refund_order"))
    found.execute("INSERT INTO orders VALUES ('1001', 'test', 1500, 'eur')")
    return found


@pytest.fixture
def shop(books: Books, database_url: str, sandbox: str) -> Iterator[Buying]:
    with selling(database_url, sandbox) as found:
        yield found


@pytest.fixture
def server(shop: Buying, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the page's Python defines."""
    monkeypatch.setenv("BILLHOOK_URL", shop.api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    names: dict[str, Any] = {}
    for python in blocks(PAGE, "python"):
        exec(python, names)
    return names


def connected(books: Books, work: Callable[[asyncpg.Connection[Any]], Coroutine[Any, Any, T]]) -> T:
    async def run() -> T:
        connection = await asyncpg.connect(books.dsn, statement_cache_size=0)
        try:
            return await work(connection)
        finally:
            await connection.close()

    return aside.run(run())


def order(books: Books) -> dict[str, Any]:
    return books.row("SELECT status, amount_refunded FROM orders")


def test_a_paid_order_is_refunded_once(books: Books, shop: Buying, server: dict[str, Any]) -> None:
    shop.paid(metadata={"order_id": "1001"})
    shop.deliver()
    assert order(books) == {"status": "paid", "amount_refunded": 0}

    async def twice(connection: asyncpg.Connection[Any]) -> list[Any]:
        return [await server["refund_order"](connection, "1001") for _ in range(2)]

    first, second = connected(books, twice)
    assert first.refund.refund_id == second.refund.refund_id
    assert (first.refund.status, first.repeated, second.repeated) == ("refunded", False, True)
    refunded = books.row("SELECT amount_refunded FROM payments.transactions WHERE type <> 'refund'")
    assert refunded == {"amount_refunded": 1500}
    shop.settle()
    shop.deliver()
    assert order(books) == {"status": "refunded", "amount_refunded": 1500}


def test_one_of_several_is_refunded(shop: Buying, server: dict[str, Any]) -> None:
    mug = shop.price(1000)
    bought = shop.paid((mug, 2))
    made = aside.run(server["refund_one_mug"](bought.id, mug, "7"))
    assert (made.refund.amount, made.refund.line_items[0].quantity) == (1000, 1)


def test_the_commands_refund(
    shop: Buying, server: dict[str, Any], billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", shop.api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    mug = shop.price(1000)
    intent = shop.paid((mug, 3))["payment_intent"]
    amounts = []
    for line in block(PAGE, "sh", "billhook refunds create").splitlines():
        words = line.replace("pi_3QxYz", intent).replace("price_1QxYz", mug).split()
        ran = billhook(*words[1:], *(() if "--json" in words else ("--json",)))
        assert ran.code == 0, ran.err
        amounts.append(ran.json["refund"]["amount"])
    assert amounts == [500, 2000]


def orders_of(events: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    return [list(each) for each in itertools.permutations(events)]


BOUGHT = event("checkout.session.completed", session("cs_1", metadata={"order_id": "1001"}), at=1)
PART = event("refund.created", refund("re_1", amount=500), at=5)
TOTAL = event("charge.refunded", charge("ch_1", amount_refunded=500), at=5)
FAILED = event("refund.failed", refund("re_1", amount=500, status="failed"), at=9)


@pytest.mark.parametrize("events", orders_of([BOUGHT, PART, TOTAL]))
def test_a_part_is_refunded_whatever_the_order_of_events(
    books: Books, events: list[dict[str, Any]]
) -> None:
    books.apply(*events, *events)
    assert order(books) == {"status": "paid", "amount_refunded": 500}


@pytest.mark.parametrize("events", orders_of([BOUGHT, PART, FAILED]))
def test_a_refund_that_fails_is_taken_back(books: Books, events: list[dict[str, Any]]) -> None:
    books.apply(*events)
    assert order(books) == {"status": "paid", "amount_refunded": 0}
