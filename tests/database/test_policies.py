"""The policies that we offer do what they say, on a real PostgreSQL with real roles."""

from __future__ import annotations

from uuid import uuid4

import asyncpg
import pytest

from billhook.access.policies import Owner, policy, session_tables
from billhook.postgres import Database, Role
from books import Books

CHECKOUTS = "payments.stripe_checkout_sessions"
PORTALS = "payments.stripe_customer_portal_sessions"
ADA, BOB = str(uuid4()), str(uuid4())


@pytest.fixture
def books(database_url: str) -> Books:
    found = Books(database_url)
    for owner in ("team", "organization"):
        found.execute(f"""
            CREATE TABLE {owner}_members ({owner}_id bigint, user_id uuid, role text);
            GRANT SELECT ON {owner}_members TO authenticated;
            INSERT INTO {owner}_members VALUES
                (1, '{ADA}', 'owner'), (2, '{BOB}', 'owner'), (2, '{ADA}', 'member');
        """)
    return found


def may_bill(books: Books, user: str, kind: str, subject: str) -> bool:
    """Whether `user` may open a checkout and a portal for the subject; both must agree."""

    async def insert(database: Database, statement: str) -> bool:
        claims = {"role": "authenticated", "sub": user}
        try:
            async with database.as_caller("authenticated", claims) as connection:
                await connection.execute(statement, kind, subject)
        except asyncpg.InsufficientPrivilegeError:
            return False
        return True

    async def both(database: Database) -> set[bool]:
        return {
            await insert(
                database,
                f"""
                INSERT INTO {CHECKOUTS} (
                    environment, mode, line_items, success_url, cancel_url, subject_type,
                    subject_id)
                VALUES ('test', 'payment', '[]', 'https://a.b', 'https://a.b', $1, $2)""",
            ),
            await insert(
                database,
                f"""
                INSERT INTO {PORTALS} (environment, subject_type, subject_id)
                VALUES ('test', $1, $2)""",
            ),
        }

    (answer,) = books.run(both)
    return answer


@pytest.mark.parametrize("owner", ["user", "team", "organization"])
def test_a_policy_lets_owners_bill_what_is_theirs_and_nothing_else(
    books: Books, owner: Owner
) -> None:
    for table in (CHECKOUTS, PORTALS):
        books.execute(policy(table, owner))
    mine, others = (ADA, BOB) if owner == "user" else ("1", "2")
    assert may_bill(books, ADA, owner, mine)
    assert not may_bill(books, ADA, owner, others)
    assert not may_bill(books, ADA, "planet", mine)


def test_policies_of_users_teams_and_organizations_stand_side_by_side(books: Books) -> None:
    for owner in ("user", "team", "organization"):
        for table in (CHECKOUTS, PORTALS):
            books.execute(policy(table, owner))
    assert may_bill(books, BOB, "user", BOB)
    assert may_bill(books, BOB, "team", "2")
    assert not may_bill(books, BOB, "organization", "1")


def test_what_is_open_is_told_until_there_is_a_policy(books: Books) -> None:
    def problems() -> list[str | None]:
        return [each.problem for each in books.run(session_tables)]

    assert all("Row-level security is off" in str(each) for each in problems())
    books.execute(f"ALTER TABLE {CHECKOUTS} ENABLE ROW LEVEL SECURITY")
    assert "no policy allows access" in str(problems()[0])
    books.execute(policy(CHECKOUTS))
    books.execute(policy(PORTALS))
    assert problems() == [None, None]


INSERT = {
    CHECKOUTS: f"""
        INSERT INTO {CHECKOUTS} (environment, mode, success_url, cancel_url, {{}})
        VALUES ('test', 'payment', 'https://a.b', 'https://a.b', {{}})""",
    PORTALS: f"""
        INSERT INTO {PORTALS} (environment, subject_type, subject_id, {{}})
        VALUES ('test', 'user', '{ADA}', {{}})""",
}
# Each of them alone makes a session look like what it is not.
OUTCOMES = [
    *((CHECKOUTS, "status", f"'{each}'") for each in ("open", "completed", "expired", "failed")),
    *((CHECKOUTS, "payment_status", f"'{each}'") for each in ("paid", "unpaid")),
    *((CHECKOUTS, f"{each}_id", "'x'") for each in ("checkout_session", "payment_intent")),
    *((CHECKOUTS, f"{each}_id", "'x'") for each in ("customer", "subscription")),
    *((CHECKOUTS, each, "'https://evil.test'") for each in ("url", "last_error")),
    (CHECKOUTS, "raw", "'{\"expires_at\": 9}'"),
    (CHECKOUTS, "provider_event_at", "now()"),
    (CHECKOUTS, "provider_event_rank", "1"),
    (CHECKOUTS, "provider_event_id", "'evt_1'"),
    (CHECKOUTS, "provider_event_previous", "'{}'"),
    *((PORTALS, "status", f"'{each}'") for each in ("created", "failed")),
    *((PORTALS, each, "'x'") for each in ("customer_id", "url", "last_error")),
    (PORTALS, "raw", "'[]'"),
]


def as_role(books: Books, role: Role, statement: str) -> None:
    async def work(database: Database) -> None:
        async with database.as_caller(role, {"sub": ADA, "role": role}) as connection:
            await connection.execute(statement)

    books.run(work)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_a_caller_cannot_insert_a_session_that_looks_paid(books: Books, role: Role) -> None:
    """With SQL of their own, such as through PostgREST, and policies that let them insert."""
    for table, column, value in OUTCOMES:
        refused = f"only Billhook may set these columns of {table}: {column}\n"
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=refused):
            as_role(books, role, INSERT[table].format(column, value))
        books.execute(INSERT[table].format(column, value) + f"; DELETE FROM {table}")


@pytest.mark.parametrize("table", [CHECKOUTS, PORTALS])
def test_a_caller_who_may_update_sessions_changes_none_of_their_outcomes(
    books: Books, table: str
) -> None:
    books.execute(INSERT[table].format("url", "'https://stripe.test'"))
    books.execute(f"GRANT UPDATE ON {table} TO authenticated")
    as_role(books, "authenticated", f"UPDATE {table} SET subject_id = 'other'")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="only Billhook may set"):
        as_role(books, "authenticated", f"UPDATE {table} SET url = 'https://evil.test'")
