"""Who may insert usage, and what nobody but Billhook may write."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from api import connect
from billhook.mirror import archives
from billhook.postgres import Database, grants
from books import Books
from metering import Metering

ROW = {
    "environment": "test",
    "meter": "api_calls",
    "subject_type": "user",
    "subject_id": "u1",
    "value": 3,
}
OWN = """
    GRANT INSERT (environment, meter, subject_type, subject_id, value, identifier)
        ON payments.usage TO authenticated;
    CREATE POLICY own_usage ON payments.usage FOR INSERT TO authenticated WITH CHECK (
        subject_type = 'user' AND subject_id = auth.jwt() ->> 'sub' AND value > 0);
"""


def insert(books: Books, role: Any, sub: str = "u1", **columns: Any) -> None:
    row = ROW | columns
    literals = ", ".join(str(v) if isinstance(v, int) else f"'{v}'" for v in row.values())

    async def work(database: Database) -> None:
        async with database.as_caller(role, {"role": role, "sub": sub}) as connection:
            await connection.execute(
                f"INSERT INTO payments.usage ({', '.join(row)}) VALUES ({literals})"
            )

    books.run(work)


@pytest.mark.parametrize("role", ["anon", "authenticated"])
def test_users_may_not_record_usage(books: Books, role: str) -> None:
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        insert(books, role)


def test_a_grant_alone_opens_nothing_to_users(books: Books) -> None:
    books.execute("GRANT INSERT, SELECT ON payments.usage TO authenticated")
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
        insert(books, "authenticated")


def test_an_app_may_let_users_record_their_own_usage(books: Books) -> None:
    books.execute(OWN)
    insert(books, "authenticated")
    for wrong in ({"sub": "u2"}, {"value": -3}, {"value": 0}, {"subject_id": "u2"}):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            insert(books, "authenticated", **wrong)
    for taken in ("status", "sent_at", "sent_as", "last_error", "created_at"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="permission denied"):
            insert(books, "authenticated", **{taken: "2026-01-01"})
    assert books.rows("SELECT status, value FROM payments.usage") == [
        {"status": "pending", "value": 3}
    ]


def test_the_server_role_records_and_reads_but_changes_nothing(books: Books) -> None:
    insert(books, "project_admin")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        insert(books, "project_admin", status="sent")

    async def work(database: Database) -> None:
        async with database.as_caller("project_admin", {}) as connection:
            assert await connection.fetchval("SELECT value FROM payments.usage") == 3
            assert await connection.fetchval("SELECT sum FROM payments.usage_totals") == 3
            assert await connection.fetchval("SELECT sum FROM payments.usage_by_day") == 3
        for statement in ("UPDATE payments.usage SET value = 1", "DELETE FROM payments.usage"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with database.as_caller("project_admin", {}) as connection:
                    await connection.execute(statement)

    books.run(work)


def test_doctor_accepts_what_lets_users_record_usage(books: Books) -> None:
    async def excess(database: Database) -> set[str]:
        async with database.as_service() as connection:
            await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
            found = await grants.read(connection)
        return {grant.privilege for grant in grants.excess(found)}

    books.execute(OWN)
    assert books.run(excess) == set()
    books.execute("GRANT UPDATE, INSERT (status) ON payments.usage TO authenticated")
    assert books.run(excess) == {"UPDATE", "INSERT (status)"}


def test_the_environment_may_come_from_a_setting(books: Books) -> None:
    bare = """INSERT INTO payments.usage (meter, customer_id) VALUES ('api_calls', 'cus_1')
              RETURNING environment, value, identifier"""
    with pytest.raises(asyncpg.NotNullViolationError):
        books.execute(bare)
    books.execute(
        """DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET billhook.environment = live', current_database());
        END $$"""
    )
    fresh = Books(books.dsn)
    first, second = fresh.row(bare), fresh.row(bare)
    assert (first["environment"], first["value"]) == ("live", 1)
    assert first["identifier"] != second["identifier"]
    fresh.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"environment": "prod"},
        {"meter": ""},
        {"subject_id": None},
        {"subject_type": None, "subject_id": None},
        {"value": 10**15},
        {"payload": '{"a": 1}'},
        {"payload": "[]"},
        {"occurred_at": "infinity"},
        {"identifier": "x" * 101},
        {"status": "done"},
    ],
)
def test_the_table_takes_only_what_stripe_could(books: Books, wrong: dict[str, Any]) -> None:
    row = {name: value for name, value in (ROW | wrong).items() if value is not None}
    literals = ", ".join(str(v) if isinstance(v, int) else f"'{v}'" for v in row.values())
    with pytest.raises(asyncpg.CheckViolationError):
        books.execute(f"INSERT INTO payments.usage ({', '.join(row)}) VALUES ({literals})")


def test_another_account_gets_nothing_of_it(metering: Metering) -> None:
    """Usage belongs to an account, sent or not: it is archived with it, and comes back."""
    metering.customer()
    metering.record(3)
    metering.send()
    metering.record(4)
    rows = metering.usage("*")
    connect(metering.books.dsn, metering.sandbox, metering.key.replace("recovery", "other"))
    assert metering.usage("*") == []
    metering.send()
    connect(metering.books.dsn, metering.sandbox, metering.key)
    oldest = metering.books.run(archives.archives)[-1]
    metering.books.run(lambda database: archives.restore(database, oldest.id))
    assert metering.usage("*") == rows
    metering.send()
    # A restored account's mappings follow from its events, and this one had none.
    metering.map("t1", metering.customer())
    metering.wake()
    metering.send()
    assert metering.sum_at_stripe() == 7
