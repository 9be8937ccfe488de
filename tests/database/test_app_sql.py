"""The SQL of docs/how-to/ (fulfill-orders.md, policies.md) can be pasted, and is
safe as it stands. So can that of docs/reference/tables.md."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from billhook.ledger import Ledger, replaying
from billhook.postgres import Database
from books import Books
from pages import app_sql, blocks
from strangers import stranger
from stripe_events import (
    event,
    invoice,
    invoice_payment,
    payment_intent,
    session,
)

USER = "11111111-1111-4111-8111-111111111111"
OTHER_USER = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def app(books: Books) -> Books:
    """A database with all of that SQL, at a host that opens every new table to users."""
    books.execute(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated"
    )
    for block in app_sql():
        books.execute(block)
    return books


def test_the_sql_runs_as_it_stands(app: Books) -> None:
    assert len(app_sql()) == 3
    policies = app.rows("""
        SELECT DISTINCT tablename FROM pg_policies
        WHERE schemaname = 'payments' AND policyname NOT LIKE 'billhook%'""")
    assert len(policies) == 2


def test_the_trigger_in_the_readme_is_that_of_the_page() -> None:
    (trigger,) = blocks("README.md", "sql")
    assert trigger in app_sql()[0]


def paid(n: int, order: str, **more: Any) -> dict[str, Any]:
    bought = session(f"cs_{n}", payment_intent=f"pi_{n}", metadata={"order_id": order}, **more)
    return event("checkout.session.completed", bought, at=n)


def test_a_payment_that_does_not_fit_fulfills_nothing_and_is_left_for_a_person(app: Books) -> None:
    app.execute("""
        INSERT INTO orders VALUES ('right', 'test', 1500, 'eur'), ('dear', 'test', 150000, 'eur'),
            ('in yen', 'test', 1500, 'jpy'), ('real', 'live', 1500, 'eur')""")
    orders = ("right", "dear", "in yen", "real", "no such order", "right")
    app.apply(*(paid(n, order) for n, order in enumerate(orders)))
    app.apply(paid(9, "right", payment_status="unpaid"), paid(10, "x", mode="subscription"))
    fulfilled = app.rows("SELECT id FROM orders WHERE status = 'paid'")
    assert [each["id"] for each in fulfilled] == ["right"]
    left = app.rows("SELECT * FROM unmatched_payments ORDER BY checkout_session_id")
    assert [(each["checkout_session_id"], each["order_id"]) for each in left] == [
        (f"cs_{n}", order) for n, order in enumerate(orders) if n > 0
    ]


def test_a_foreign_key_to_transactions_lets_a_subscriptions_payment_become_one_row(
    books: Books,
) -> None:
    (foreign_key,) = blocks("docs/reference/tables.md", "sql")
    books.execute(f"""
        CREATE TABLE receipts (transaction_id uuid);
        {foreign_key}
        CREATE FUNCTION receipt() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO public.receipts VALUES (NEW.id); RETURN NULL; END $$;
        CREATE TRIGGER receipt AFTER INSERT ON payments.transactions
        FOR EACH ROW EXECUTE FUNCTION receipt();
    """)
    intent = payment_intent("pi_9", amount=2900, amount_received=2900, currency="usd", metadata={})
    books.apply(
        event("payment_intent.succeeded", intent, at=50),
        event("invoice.paid", invoice(), at=51),
        event("invoice_payment.paid", invoice_payment(), at=60),
    )
    assert books.rows("SELECT amount FROM payments.transactions") == [{"amount": 2900}]
    assert len(books.rows("SELECT FROM receipts WHERE transaction_id IS NULL")) == 1


def test_an_event_that_is_fired_again_leaves_nothing_to_look_at(app: Books) -> None:
    app.execute("INSERT INTO orders VALUES ('right', 'test', 1500, 'eur')")
    told = paid(1, "right")
    app.apply(told)
    app.run(lambda database: replaying.replay(Ledger(database), "test", told["id"], refire=True))
    assert app.rows("SELECT * FROM unmatched_payments") == []


@pytest.mark.parametrize(("order", "amount", "fulfilled"), [("free", 0, True), ("dear", 0, False)])
def test_a_free_checkout_fulfills_its_order_or_is_left_for_review(
    app: Books, order: str, amount: int, fulfilled: bool
) -> None:
    app.execute("INSERT INTO orders VALUES ('free', 'test', 0, 'eur'), ('dear', 'test', 9, 'eur')")
    free = {"payment_status": "no_payment_required", "amount_total": amount, "currency": "eur"}
    app.apply(paid(1, order, **free))
    status = app.row("SELECT status FROM orders WHERE id = $1", order)["status"]
    left = app.rows("SELECT order_id FROM unmatched_payments")
    assert (status, left) == (("paid", []) if fulfilled else ("pending", [{"order_id": order}]))


# What any database login can do: a table of its own that looks like the ledger.
FORGED_LEDGER = """
    CREATE TEMPORARY TABLE ledger (
        environment text, event_type text, processing_status text, object_id text, payload jsonb);
    CREATE TRIGGER forged AFTER INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION {function}();
    INSERT INTO ledger VALUES ('test', 'checkout.session.completed', 'processed', 'x', '{{"data": {{
        "object": {{"id": "cs_forged", "mode": "payment", "payment_status": "paid",
        "amount_total": 1500, "currency": "eur", "metadata": {{"order_id": "right"}}}}}}}}')
"""


def test_a_database_user_cannot_mark_an_order_paid_through_the_trigger_function(
    app: Books, direct_database_url: str
) -> None:
    app.execute("INSERT INTO orders VALUES ('right', 'test', 1500, 'eur')")
    with stranger(direct_database_url) as attacker:
        attack = FORGED_LEDGER.format(function="fulfill_order")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            attacker.execute(attack)
        app.execute("GRANT EXECUTE ON FUNCTION fulfill_order TO stranger")
        with pytest.raises(asyncpg.RaiseError, match=r"payments\.webhook_events only"):
            attacker.execute(attack)
    assert app.row("SELECT status FROM orders") == {"status": "pending"}


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_host_that_opens_every_function_to_users_does_not_open_the_trigger_function(
    books: Books, role: str
) -> None:
    books.execute("ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated")
    for block in app_sql():
        books.execute(block)
    may = f"SELECT has_function_privilege('{role}', 'fulfill_order()', 'EXECUTE') AS it"
    assert books.row(may) == {"it": False}


def may_check_out(
    app: Books, user: str | None, subject: tuple[str, str] | None, mode: str = "payment"
) -> bool:
    """Whether the policies let a user, or a guest, open this checkout."""

    async def insert(database: Database) -> bool:
        role = "authenticated" if user else "anon"
        claims = {"role": role, **({"sub": user} if user else {})}
        try:
            async with database.as_caller(role, claims) as connection:
                await connection.execute(
                    "INSERT INTO payments.stripe_checkout_sessions (environment, mode, line_items,"
                    " success_url, cancel_url, subject_type, subject_id) VALUES ('test', $1, '[]',"
                    " 'https://a.b', 'https://a.b', $2, $3)",
                    mode,
                    *(subject or (None, None)),
                )
        except asyncpg.InsufficientPrivilegeError:
            return False
        return True

    return app.run(insert)


def test_the_policies_let_users_and_guests_buy_orders(app: Books) -> None:
    assert may_check_out(app, None, None)
    assert may_check_out(app, USER, None)
    assert may_check_out(app, USER, ("user", USER))


def test_the_policies_let_nobody_bill_somebody_else(app: Books) -> None:
    app.execute(f"INSERT INTO team_members VALUES ('t', '{USER}', 'owner')")
    assert may_check_out(app, USER, ("team", "t"), "subscription")
    assert not may_check_out(app, OTHER_USER, ("team", "t"))
    assert not may_check_out(app, OTHER_USER, ("user", USER))
    assert not may_check_out(app, None, ("user", USER))
    assert not may_check_out(app, None, None, "subscription")


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_users_cannot_write_their_own_orders_and_memberships(app: Books, role: str) -> None:
    for table in ("orders", "unmatched_payments"):
        granted = f"SELECT has_table_privilege('{role}', '{table}', 'SELECT, INSERT, UPDATE') AS it"
        assert app.row(granted) == {"it": False}
    joins = f"SELECT has_table_privilege('{role}', 'team_members', 'INSERT, UPDATE') AS it"
    assert app.row(joins) == {"it": False}
