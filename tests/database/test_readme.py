"""What the README shows can be pasted, and is safe as it stands."""

from __future__ import annotations

from typing import Any

import pytest

from billhook import events
from books import Books
from readme import sql_blocks
from stripe_events import event, session, subject, subscription


@pytest.fixture
def app(books: Books) -> Books:
    """A database with all of the README's SQL, at a host that opens every new table to users."""
    books.execute(
        "ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT ALL ON TABLES TO anon, authenticated"
    )
    for block in sql_blocks():
        books.execute(block)
    return books


def test_the_sql_of_the_readme_runs_as_it_stands(app: Books) -> None:
    assert len(sql_blocks()) == 3
    policies = app.rows("SELECT DISTINCT tablename FROM pg_policies WHERE schemaname = 'payments'")
    assert len(policies) == 2


def paid(n: int, order: str, **more: Any) -> dict[str, Any]:
    bought = session(f"cs_{n}", payment_intent=f"pi_{n}", metadata={"order_id": order}, **more)
    return event("checkout.session.completed", bought, at=n)


def test_a_payment_that_does_not_fit_fulfils_nothing_and_is_left_for_a_person(app: Books) -> None:
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


def test_an_event_that_is_fired_again_leaves_nothing_to_look_at(app: Books) -> None:
    app.execute("INSERT INTO orders VALUES ('right', 'test', 1500, 'eur')")
    told = paid(1, "right")
    app.apply(told)
    app.run(lambda database: events.replay(database, "test", told["id"], refire=True))
    assert app.rows("SELECT * FROM unmatched_payments") == []


def subscribed(name: str, price: str, status: str, at: int) -> dict[str, Any]:
    found = subscription(name, status=status, metadata=subject("team", "t_42"))
    found["items"]["data"][0]["price"]["id"] = price
    return event("customer.subscription.updated", found, at=at)


def test_a_team_has_access_as_long_as_one_subscription_to_a_plan_runs(app: Books) -> None:
    app.execute("INSERT INTO plan_prices VALUES ('test', 'price_plan'), ('live', 'price_other')")

    def teams() -> list[str]:
        return [each["team_id"] for each in app.rows("SELECT team_id FROM team_entitlements")]

    app.apply(subscribed("sub_0", "price_other", "active", 0))
    assert teams() == []
    app.apply(subscribed("sub_1", "price_plan", "active", 1))
    app.apply(subscribed("sub_2", "price_plan", "active", 2))
    app.apply(subscribed("sub_1", "price_plan", "canceled", 3))
    assert teams() == ["t_42"]
    app.apply(subscribed("sub_2", "price_plan", "canceled", 4))
    assert teams() == []


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_users_cannot_write_their_own_orders_plans_and_memberships(app: Books, role: str) -> None:
    for table in ("orders", "unmatched_payments", "plan_prices", "team_entitlements"):
        granted = f"SELECT has_table_privilege('{role}', '{table}', 'SELECT, INSERT, UPDATE') AS it"
        assert app.row(granted) == {"it": False}
    joins = f"SELECT has_table_privilege('{role}', 'team_members', 'INSERT, UPDATE') AS it"
    assert app.row(joins) == {"it": False}
