"""docs/how-to/grant-access.md: its policies, functions and commands do what the page says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import asyncpg
import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from api import Api
from billhook.postgres import Database
from books import Books
from cli import Billhook, billhook
from http_tokens import ADMIN_KEY, USER
from pages import app_sql, block, blocks
from strangers import as_user
from stripe_events import entitlements, event, product, session, subject, subscription

__all__ = ["billhook"]

PAGE = "docs/how-to/grant-access.md"
PAYING, OTHER = "t_pays", "t_free"


def bought(team: str, **more: Any) -> dict[str, Any]:
    """Three seats of `prod_1`."""
    made = subscription(f"sub_{team}", customer=f"cus_{team}", metadata=subject(name=team), **more)
    return event("customer.subscription.updated", made, at=more.pop("at", 0))


@pytest.fixture
def app(database_url: str) -> Iterator[Books]:
    """A user who belongs to two teams, one of which pays."""
    books = Books(database_url)
    books.execute("DROP ROLE IF EXISTS backend")
    for sql in (*app_sql(), *blocks(PAGE, "sql")):
        if "REVOKE EXECUTE" not in sql:
            books.execute(sql)
    books.execute(f"""
        INSERT INTO team_members
        VALUES ('{PAYING}', '{USER}', 'owner'), ('{OTHER}', '{USER}', 'owner');
        INSERT INTO documents (team_id, title)
        VALUES ('{PAYING}', 'paid'), ('{OTHER}', 'unpaid'), ('t_of_others', 'secret')
    """)
    books.apply(
        event("product.created", product("prod_1", metadata={"lookup_key": "pro"})),
        bought(PAYING),
        bought("t_of_others"),
    )
    yield books
    books.execute("DROP OWNED BY backend; DROP ROLE backend")


def as_member(books: Books, query: str, **claims: Any) -> list[Any]:
    async def work(database: Database) -> list[Any]:
        given = {"role": "authenticated", "sub": USER, **claims}
        async with database.as_caller("authenticated", given) as connection:
            return [row[0] for row in await connection.fetch(query)]

    return books.run(work)


def may(books: Books, statement: str) -> bool:
    try:
        as_member(books, statement)
    except asyncpg.InsufficientPrivilegeError:
        return False
    return True


def test_documents_are_for_members_of_teams_that_pay(app: Books) -> None:
    assert as_member(app, "SELECT title FROM documents") == ["paid"]
    app.apply(
        event(
            "customer.subscription.deleted",
            subscription(
                f"sub_{PAYING}",
                customer=f"cus_{PAYING}",
                status="canceled",
                metadata=subject(name=PAYING),
            ),
            at=9,
        )
    )
    assert as_member(app, "SELECT title FROM documents") == []


@pytest.mark.parametrize(
    ("status", "counts"),
    [
        *((status, True) for status in ("active", "trialing")),
        *(
            (status, False)
            for status in (
                *("past_due", "incomplete", "incomplete_expired", "unpaid", "paused", "canceled"),
            )
        ),
    ],
)
def test_the_table_of_statuses_is_right(app: Books, status: str, counts: bool) -> None:
    made = subscription(f"sub_{PAYING}", status=status, metadata=subject(name=PAYING))
    paused = {"pause_collection": {"behavior": "void", "resumes_at": None}}
    app.apply(event("customer.subscription.updated", made | paused, at=5))
    assert as_member(app, "SELECT title FROM documents") == (["paid"] if counts else [])


def test_exports_are_for_teams_that_stripe_entitles(app: Books) -> None:
    export = f"INSERT INTO exports (team_id) VALUES ('{PAYING}')"
    assert not may(app, export)
    paid = session(customer=f"cus_{PAYING}", metadata=subject(name=PAYING), payment_intent=None)
    app.apply(
        event("checkout.session.completed", paid),
        event(
            "entitlements.active_entitlement_summary.updated",
            entitlements("export", customer=f"cus_{PAYING}"),
        ),
    )
    assert may(app, export)
    assert not may(app, f"INSERT INTO exports (team_id) VALUES ('{OTHER}')")


def test_a_team_fills_the_seats_that_it_has_paid_for(app: Books) -> None:
    seat = "INSERT INTO seats VALUES ('{}', {}, gen_random_uuid())"
    assert [may(app, seat.format(PAYING, number)) for number in (1, 3, 4)] == [True, True, False]
    assert not may(app, seat.format(OTHER, 1))
    with pytest.raises(asyncpg.UniqueViolationError):
        as_member(app, seat.format(PAYING, 3))


def test_a_backend_asks_before_it_answers(app: Books, direct_database_url: str) -> None:
    names: dict[str, Any] = {}
    exec(block(PAGE, "python", "FastAPI"), names)
    api: FastAPI = names["app"]

    async def open_pool() -> None:
        url = as_user(direct_database_url, "backend")
        api.state.pool = await asyncpg.create_pool(url, min_size=1, max_size=1)

    async def close_pool() -> None:
        await api.state.pool.close()

    api.router.on_startup.append(open_pool)
    api.router.on_shutdown.append(close_pool)
    with TestClient(api) as client:
        assert client.get(f"/teams/{PAYING}/report").json() == {"team": PAYING}
        refused = client.get(f"/teams/{OTHER}/report")
        assert (refused.status_code, "Pro" in refused.json()["detail"]) == (402, True)


def test_the_view_names_who_pays_for_what(app: Books) -> None:
    query = block(PAGE, "sql", "active_subscriptions").replace("'live'", "'test'")
    rows = {row["team"]: (row["product_name"], row["quantity"]) for row in app.rows(query)}
    assert rows == {PAYING: ("Tea", 3), "t_of_others": ("Tea", 3)}


def test_who_may_not_ask_for_others_may_ask_for_their_teams(app: Books) -> None:
    app.execute(block(PAGE, "sql", "REVOKE EXECUTE"))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        as_member(app, "SELECT payments.has_access('team', 't_of_others', 'pro')")
    for team, expected in ((PAYING, True), (OTHER, False), ("t_of_others", False)):
        assert as_member(app, f"SELECT my_team_has('{team}', 'pro')") == [expected], team
    mine = "SELECT payments.my_access('pro', 'team', 'org_id')"
    assert as_member(app, mine, org_id=PAYING) == [True]
    assert as_member(app, "SELECT payments.my_access('pro')") == [False]


def test_the_commands_set_the_grace_and_ask(
    api: Api, billhook: Billhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BILLHOOK_URL", api.url)
    monkeypatch.setenv("BILLHOOK_API_KEY", ADMIN_KEY)
    (command,) = blocks(PAGE, "sh")
    assert billhook(*command.split()[1:]).code == 0
    grace = api.books.row("SELECT grace::text AS grace FROM payments.access_settings")
    assert grace == {"grace": "72:00:00"}
    name = f"Pro {uuid4().hex}"
    made = billhook("products", "create", "--name", name, "--json").json["product"]["productId"]
    named = billhook("products", "update", made, "--metadata", "lookup_key=pro", "--json").json
    assert named["product"]["metadata"] == {"lookup_key": "pro"}
    api.books.apply(bought("t_42"))
    api.books.execute(f"UPDATE payments.stripe_subscription_items SET product_id = '{made}'")
    assert billhook("access", "check", "team", "t_42", "pro").code == 0
    assert orjson.loads(billhook("access", "show", "--json").out)["graceSeconds"] == 3 * 86_400
