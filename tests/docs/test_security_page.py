"""docs/explanation/security.md: what it says about roles and functions holds."""

from __future__ import annotations

import asyncpg
import pytest

from billhook.postgres import ROLES
from books import Books
from pages import app_sql, blocks
from strangers import stranger

PAGE = "docs/explanation/security.md"
_SESSIONS = {"stripe_checkout_sessions", "stripe_customer_portal_sessions"}
_OF_ROLE = """
    SELECT c.relname AS name, p.privilege
    FROM pg_class c,
        unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRIGGER']) AS p (privilege)
    WHERE c.relkind = 'r' AND has_table_privilege($1, c.oid, p.privilege) AND c.relnamespace IN (
        'billhook'::regnamespace, 'payments'::regnamespace, 'system'::regnamespace)
"""


@pytest.fixture
def books(database_url: str) -> Books:
    return Books(database_url)


def privileges(books: Books, role: str) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for row in books.rows(_OF_ROLE, role):
        found.setdefault(row["privilege"], set()).add(row["name"])
    return found


def test_only_the_functions_for_policies_run_with_the_rights_of_their_owner(books: Books) -> None:
    ours, _ = blocks(PAGE, "sql")
    assert books.rows(ours) == []
    every = ours.replace("AND p.proname NOT IN ('access_quantity', 'my_access')", "")
    assert len(books.rows(every)) == 2
    books.execute("CREATE FUNCTION billhook.f() RETURNS int SECURITY DEFINER LANGUAGE sql RETURN 1")
    assert len(books.rows(ours)) == 1


def test_the_docs_own_triggers_cannot_be_executed_by_users(books: Books) -> None:
    _, of_the_app = blocks(PAGE, "sql")
    for sql in app_sql():
        books.execute(sql)
    assert books.rows("SELECT FROM pg_proc WHERE prosecdef AND proname = 'fulfill_order'")
    assert books.rows(of_the_app) == []
    books.execute("CREATE FUNCTION f() RETURNS int SECURITY DEFINER LANGUAGE sql RETURN 1")
    assert len(books.rows(of_the_app)) == 1


def test_the_roles_may_do_what_the_page_says(books: Books) -> None:
    assert {"anon", "authenticated", "project_admin"} == ROLES
    assert privileges(books, "anon") == {"SELECT": _SESSIONS, "INSERT": _SESSIONS}
    assert privileges(books, "authenticated") == {
        "SELECT": _SESSIONS | {"stripe_subscriptions", "stripe_invoices", "stripe_payment_methods"},
        "INSERT": _SESSIONS,
    }
    administrator = privileges(books, "project_admin")
    assert administrator.keys() == {"SELECT", "INSERT", "TRIGGER"}
    assert administrator["TRIGGER"] == _SESSIONS | {"webhook_events", "customers"}
    assert administrator["INSERT"] == _SESSIONS | {"customer_assignments"}
    payments = books.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'payments'")
    assert administrator["SELECT"] == {row["tablename"] for row in payments}


def test_another_user_reads_nothing(books: Books, direct_database_url: str) -> None:
    with stranger(direct_database_url) as other:
        for table in ("payments.customers", "billhook.api_keys", "system.secrets"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                other.rows(f"SELECT FROM {table}")
