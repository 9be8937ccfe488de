"""The demo shop's SQL, which apps copy: what a payment does there, and who can make it happen."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest

import aside
from billhook.demo import DemoConfig, open_demo, orders
from books import Books
from strangers import stranger
from stripe_events import T0, event, session, subscription

ORDER = """
    INSERT INTO demo.orders (id, environment, product, price_id, quantity, amount, currency)
    VALUES ('{id}', 'test', 'mug', 'price_mug', 1, {amount}, 'eur')
"""
END = datetime(2026, 6, 27, tzinfo=UTC)
SESSION_ROW = """
    INSERT INTO payments.stripe_checkout_sessions (
        environment, mode, line_items, success_url, cancel_url, checkout_session_id)
    VALUES ('test', 'payment', '[]', 'https://a.b', 'https://a.b', '{id}')
"""


@pytest.fixture
def shop(books: Books) -> Books:
    """The demo's schema, at a host that opens everything new to users."""
    books.execute("""
        ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated""")
    aside.run(orders.install(books.dsn))
    return books


def completed(order: str, *, at: int = 1, **more: Any) -> dict[str, Any]:
    metadata = {"app": "demo-shop", "order_id": order}
    return event("checkout.session.completed", session("cs_1", metadata=metadata, **more), at=at)


@pytest.mark.parametrize(
    ("amount", "status", "fulfilled"),
    [
        (1500, "paid", True),
        (0, "no_payment_required", True),
        (1500, "no_payment_required", False),
    ],
)
def test_what_is_not_unpaid_fulfills_its_order_or_is_left_for_review(
    shop: Books, amount: int, status: str, fulfilled: bool
) -> None:
    shop.execute(ORDER.format(id="o", amount=amount) + ";" + SESSION_ROW.format(id="cs_1"))
    total = 1500 if status == "paid" else 0
    shop.apply(completed("o", payment_status=status, amount_total=total))
    assert shop.row("SELECT status FROM demo.orders")["status"] == (
        "paid" if fulfilled else "pending"
    )
    left = shop.rows("SELECT order_id FROM demo.unmatched_payments")
    assert left == ([] if fulfilled else [{"order_id": "o"}])


def test_an_order_waits_for_a_debit_that_takes_days(shop: Books) -> None:
    shop.execute(ORDER.format(id="o", amount=1500) + ";" + SESSION_ROW.format(id="cs_1"))

    def status() -> Any:
        return shop.row("SELECT status FROM demo.orders")["status"]

    shop.apply(completed("o", payment_status="unpaid"))
    assert status() == "processing"
    failed = completed("o", payment_status="unpaid", at=2)
    shop.apply({**failed, "type": "checkout.session.async_payment_failed"})
    assert status() == "failed"
    paid = completed("o", payment_status="paid", at=3)
    shop.apply({**paid, "type": "checkout.session.async_payment_succeeded"})
    assert status() == "paid"
    assert shop.rows("SELECT * FROM demo.unmatched_payments") == []


def test_the_team_sees_when_its_plan_ends_and_that_payments_are_paused(shop: Books) -> None:
    shop.execute("""
        INSERT INTO demo.prices (environment, product, currency, price_id, unit_amount)
        VALUES ('test', 'team', 'usd', 'price_1', 900)""")
    team = shop.row("SELECT id FROM demo.teams")["id"]
    metadata = {"insforge_subject_type": "team", "insforge_subject_id": team}

    def plan(at: int, **fields: Any) -> Any:
        shown = subscription(metadata=metadata, **fields)
        shop.apply(event("customer.subscription.updated", shown, at=at))
        return shop.row("""
            SELECT extract(epoch FROM ends_at)::bigint AS ends, collection_paused AS paused
            FROM demo.team_entitlements""")

    assert plan(1) == {"ends": None, "paused": False}
    # Canceled in Stripe's portal, with flexible billing: `cancel_at` alone.
    assert plan(2, cancel_at=T0 + 99) == {"ends": T0 + 99, "paused": False}
    assert plan(3, cancel_at_period_end=True)["ends"] == T0 + 2_592_000
    assert plan(4, pause_collection={"behavior": "void"}) == {"ends": None, "paused": True}


@pytest.mark.parametrize(
    ("ends", "says"),
    [
        (None, ["Renews on 2026-06-27."]),
        (END, ["Ends on 2026-06-27."]),
        (END - timedelta(days=3), ["Ends on 2026-06-24."]),
        (END + timedelta(days=30), ["Renews on 2026-06-27.", "Ends on 2026-07-27."]),
    ],
)
def test_the_team_page_says_when_the_plan_renews_or_ends(
    shop: Books, ends: datetime | None, says: list[str]
) -> None:
    ends_at = f"'{ends.isoformat()}'" if ends else "NULL"
    shop.execute(f"""
        INSERT INTO demo.team_entitlements (environment, team_id, active, status, subscription_id,
            current_period_end, ends_at, collection_paused)
        SELECT 'test', id, true, 'active', 'sub_1', '{END.isoformat()}', {ends_at}, true
        FROM demo.teams""")

    async def read() -> str:
        config = DemoConfig(shop.dsn, "secret", "anon_key")
        async with open_demo(config) as app:
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop") as browser:
                return (await browser.get("/team")).text

    page = aside.run(read())
    assert re.findall(r"(?:Renews|Ends) on [-0-9]+\.", page) == says
    assert "Payment collection is paused." in page


@pytest.mark.parametrize("function", ["fulfill_order", "entitle_team"])
def test_a_database_user_cannot_attach_the_shops_functions_to_a_table_of_their_own(
    shop: Books, direct_database_url: str, function: str
) -> None:
    attach = (
        "CREATE TEMPORARY TABLE ledger (environment text, event_type text, object_id text, "
        "payload jsonb); CREATE TRIGGER forged AFTER INSERT ON ledger FOR EACH ROW EXECUTE "
        f"FUNCTION demo.{function}(); INSERT INTO ledger DEFAULT VALUES"
    )
    with stranger(direct_database_url) as attacker:
        shop.execute("GRANT USAGE ON SCHEMA demo TO stranger")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            attacker.execute(attach)
        shop.execute(f"GRANT EXECUTE ON FUNCTION demo.{function} TO stranger")
        with pytest.raises(asyncpg.RaiseError, match=r"payments\.webhook_events only"):
            attacker.execute(attach)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_users_read_and_write_none_of_the_shops_tables(shop: Books, role: str) -> None:
    open_tables = f"""
        SELECT c.relname FROM pg_class c
        WHERE c.relnamespace = 'demo'::regnamespace AND c.relkind = 'r'
          AND has_table_privilege('{role}', c.oid, 'SELECT, INSERT, UPDATE, DELETE, TRIGGER')"""
    assert shop.rows(open_tables) == []
    for function in ("fulfill_order()", "entitle_team()"):
        may = f"SELECT has_function_privilege('{role}', 'demo.{function}', 'EXECUTE') AS it"
        assert shop.row(may) == {"it": False}
