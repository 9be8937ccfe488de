"""Who may do what in a migrated database: what the contract says, whatever its defaults are."""

from __future__ import annotations

import asyncio

import pytest

import insforge
from billhook.kinds import TABLES
from billhook.postgres import Database, grants
from billhook.postgres.grants import Grants
from billhook.postgres.migrate import migrate
from books import Books

EVERYTHING_IS_OPEN = """
    DO $$ DECLARE wanted text; BEGIN
        FOREACH wanted IN ARRAY ARRAY['anon', 'authenticated', 'project_admin', 'dashboard'] LOOP
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
            END;
        END LOOP;
    END $$;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO anon, PUBLIC;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, dashboard, PUBLIC;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated, PUBLIC;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, project_admin;
"""
# As Supabase sets them, for every schema instead of `public`.
OF_SUPABASE = """
    ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO anon, authenticated, project_admin;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON FUNCTIONS TO anon, authenticated, project_admin;
    ALTER DEFAULT PRIVILEGES GRANT ALL ON SEQUENCES TO anon, authenticated, project_admin;
"""
# The whole contract, written out once more by hand, but for what is mirrored.
CONTRACT = {
    **{
        f"payments.{table}": {"project_admin": {"SELECT"}}
        for table in (
            *(
                "provider_connections",
                "customer_mappings",
                "transactions",
                "offers",
                "mrr_movements",
            ),
            *("access_settings", "active_subscriptions"),
            *(table for table in TABLES if table != "customers"),
        )
    },
    "payments.customer_assignments": {"project_admin": {"INSERT", "SELECT"}},
    "payments.stripe_invoices": {"authenticated": {"SELECT"}, "project_admin": {"SELECT"}},
    "payments.stripe_payment_methods": {
        "authenticated": {"SELECT", "UPDATE (updated_at)"},
        "project_admin": {"SELECT"},
    },
    **{
        f"payments.{table}": {"project_admin": {"SELECT", "TRIGGER"}}
        for table in ("customers", "webhook_events")
    },
    **{
        f"payments.{table}": {
            "anon": {"INSERT", "SELECT"},
            "authenticated": {"INSERT", "SELECT"},
            "project_admin": {"INSERT", "SELECT", "TRIGGER"},
        }
        for table in ("stripe_checkout_sessions", "stripe_customer_portal_sessions")
    },
    "payments.stripe_subscriptions": {
        "authenticated": {"SELECT", "UPDATE (updated_at)"},
        "project_admin": {"SELECT"},
    },
    **{
        f"payments.{table}": {"project_admin": {"SELECT"}}
        for table in ("usage_days", "usage_totals", "usage_by_day")
    },
    "payments.usage": {
        "project_admin": {
            "SELECT",
            *(
                f"INSERT ({column})"
                for column in (
                    *("environment", "meter", "subject_type", "subject_id", "customer_id"),
                    *("value", "payload", "occurred_at", "identifier"),
                )
            ),
        }
    },
    **{
        f"payments.{function}": {
            role: {"EXECUTE"} for role in ("anon", "authenticated", "project_admin")
        }
        for function in (
            *(
                f"{name}(subject_type text, subject_id {type}, what text, environment text, "
                "grace interval)"
                for name in ("access_quantity", "has_access")
                for type in ("text", "anynonarray")
            ),
            "my_access(what text, subject_type text, claim text, environment text, grace interval)",
        )
    },
    "payments": {role: {"USAGE"} for role in ("anon", "authenticated", "project_admin")},
    "auth": {role: {"USAGE"} for role in ("anon", "authenticated", "project_admin")},
}


def found(books: Books) -> Grants:
    async def work(database: Database) -> Grants:
        async with database.as_service() as connection:
            await connection.execute("SET LOCAL search_path = pg_catalog, pg_temp")
            return await grants.read(connection)

    return books.run(work)


def granted(books: Books) -> dict[str, dict[str, set[str]]]:
    """Privileges of each role on each object, without what only the owner has."""
    every: dict[str, dict[str, set[str]]] = {}
    for grant in found(books).grants:
        every.setdefault(grant.name, {}).setdefault(grant.grantee, set()).add(grant.privilege)
    return every


@pytest.mark.parametrize("defaults", ["SELECT 1", EVERYTHING_IS_OPEN, OF_SUPABASE])
def test_a_migrated_database_has_the_contracts_grants_whatever_its_defaults_are(
    books: Books, empty_database_url: str, defaults: str
) -> None:
    """`books`: a migration before this one made the roles."""
    empty = Books(empty_database_url)
    empty.execute(defaults)
    asyncio.run(migrate(empty_database_url))
    assert granted(empty) == CONTRACT
    for role in ("anon", "authenticated"):
        (may,) = empty.rows(
            f"""SELECT has_schema_privilege('{role}', 'billhook', 'USAGE, CREATE') OR
                has_schema_privilege('{role}', 'payments', 'CREATE') OR
                has_table_privilege('{role}', 'payments.transactions', 'SELECT, INSERT') OR
                has_table_privilege('{role}', 'system.secrets', 'SELECT, INSERT, UPDATE') AS it"""
        )
        assert may == {"it": False}
    assert granted(books) == CONTRACT


def test_policies_work_where_functions_are_closed_to_everybody_by_default(
    books: Books, empty_database_url: str
) -> None:
    empty = Books(empty_database_url)
    empty.execute("ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
    asyncio.run(migrate(empty_database_url))
    may = "SELECT has_function_privilege('authenticated', 'auth.uid()', 'EXECUTE') AS it"
    assert empty.row(may) == {"it": True}


def test_adoption_closes_what_defaults_opened_and_keeps_what_the_app_granted(
    books: Books, empty_database_url: str
) -> None:
    empty = Books(empty_database_url)
    empty.execute("ALTER DEFAULT PRIVILEGES GRANT INSERT, UPDATE, DELETE ON TABLES TO anon, PUBLIC")
    insforge.make_payments(empty)
    empty.execute("""
        CREATE TABLE payments.razorpay_orders (id text);
        GRANT SELECT ON payments.transactions TO authenticated;
        GRANT SELECT (email) ON payments.customers TO authenticated""")
    asyncio.run(migrate(empty_database_url))
    now = granted(empty)
    assert now["payments.transactions"] == {
        "authenticated": {"SELECT"},
        "project_admin": {"SELECT"},
    }
    assert now["payments.customers"]["authenticated"] == {"SELECT (email)"}
    assert now["payments.webhook_events"] == CONTRACT["payments.webhook_events"]
    assert now["payments.stripe_checkout_sessions"] == CONTRACT["payments.stripe_checkout_sessions"]
    theirs = "SELECT has_table_privilege('anon', 'payments.razorpay_orders', 'INSERT') AS it"
    assert empty.row(theirs) == {"it": True}, "a table that is not ours was touched"


def test_a_later_migration_keeps_what_the_app_granted_and_revoked(books: Books) -> None:
    books.execute("""
        GRANT SELECT ON payments.transactions TO authenticated;
        REVOKE SELECT ON payments.customers FROM project_admin;
        UPDATE billhook.function_files SET checksum = 'older'""")
    asyncio.run(migrate(books.dsn))
    now = granted(books)
    assert "authenticated" in now["payments.transactions"]
    assert now["payments.customers"]["project_admin"] == {"TRIGGER"}


def test_what_is_open_or_missing_is_named_with_the_statements_that_fix_it(books: Books) -> None:
    assert not grants.excess(found(books))
    assert not grants.missing(found(books))
    books.execute("""
        GRANT ALL ON payments.transactions TO anon;
        GRANT USAGE ON SCHEMA billhook TO PUBLIC;
        GRANT SELECT (key_hash) ON billhook.api_keys TO authenticated;
        GRANT EXECUTE ON FUNCTION billhook.backoff TO PUBLIC;
        REVOKE INSERT ON payments.stripe_checkout_sessions FROM anon;
        REVOKE USAGE ON SCHEMA payments FROM authenticated""")
    open_now, missing = grants.excess(found(books)), grants.missing(found(books))
    assert {(each.name, each.grantee) for each in open_now} == {
        ("payments.transactions", "anon"),
        ("billhook", "PUBLIC"),
        ("billhook.api_keys", "authenticated"),
        ("billhook.backoff(failures integer)", "PUBLIC"),
    }
    assert len(missing) == 2
    books.execute("; ".join([*grants.revocations(open_now), *grants.additions(missing)]))
    assert granted(books) == CONTRACT


def test_billhooks_own_objects_are_known_by_name(books: Books) -> None:
    """The list in the code is exactly what a migration creates."""
    created = books.rows("""
        SELECT relname::text AS name FROM pg_class
        WHERE relnamespace = 'billhook'::regnamespace AND relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION SELECT proname::text FROM pg_proc WHERE pronamespace = 'billhook'::regnamespace""")
    assert {each["name"] for each in created} == set(grants._PRIVATE.split())


def test_what_the_app_created_in_the_private_schema_is_to_be_moved_not_closed(books: Books) -> None:
    books.execute("""
        CREATE TABLE billhook.team_members (id serial PRIMARY KEY, team_id text);
        GRANT SELECT ON billhook.team_members TO authenticated;
        CREATE VIEW billhook.owners AS SELECT team_id FROM billhook.team_members;
        CREATE FUNCTION billhook.one_subscription() RETURNS integer LANGUAGE sql AS 'SELECT 1'""")
    now = found(books)
    assert not grants.excess(now)
    assert grants.moves(now.misplaced) == [
        "ALTER FUNCTION billhook.one_subscription() SET SCHEMA public",
        "ALTER TABLE billhook.owners SET SCHEMA public",
        "ALTER TABLE billhook.team_members SET SCHEMA public",
    ]
    books.execute("UPDATE billhook.function_files SET checksum = 'older'")
    asyncio.run(migrate(books.dsn))
    may = "SELECT has_function_privilege('anon', 'billhook.one_subscription()', 'EXECUTE') AS it"
    assert books.row(may) == {"it": True}
    books.execute("; ".join(grants.moves(now.misplaced)))
    assert not found(books).misplaced
    assert granted(books) == CONTRACT
