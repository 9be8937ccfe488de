"""What other users of the database try from sessions of their own."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from billhook.db.embedded import EmbeddedPostgres
from billhook.db.migrate import MigrationError, migrate
from books import Books
from strangers import stranger

# A type of the attacker's own, whose check runs with the rights of whoever makes a value of it.
TEMPORARY_TYPES = """
    CREATE FUNCTION pg_temp.hostile() RETURNS boolean LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'hostile: a type ran as %', current_user;
    END $$;
"""
NAMES = ("text", "jsonb", "timestamptz", "date", "uuid", "int8", "int4", "bool", "regclass")
TABLES = ("daily_changes", "daily_totals", "subscription_changes", "transactions")
INSERTS = """
    INSERT INTO payments.transactions
        (provider, environment, type, status, amount, currency, paid_at)
        VALUES ('stripe', 'test', 'one_time_payment', 'succeeded', 1500, 'eur', now());
    INSERT INTO payments.stripe_subscriptions (environment, subscription_id, customer_id, status)
        VALUES ('test', 'sub_1', 'cus_1', 'active');
"""
CHANGES = """
    UPDATE payments.transactions SET amount = 2000;
    UPDATE payments.transactions SET status = 'failed';
    DELETE FROM payments.transactions;
    UPDATE payments.stripe_subscriptions SET status = 'canceled';
    DELETE FROM payments.stripe_subscriptions;
"""
TRUNCATE = "TRUNCATE payments.transactions, payments.stripe_subscriptions"
COUNTED = """
    SELECT (SELECT pg_catalog.sum(payments)::int8 FROM billhook.daily_changes) AS payments,
        (SELECT pg_catalog.sum(subscriptions)::int8 FROM billhook.subscription_changes)
            AS subscriptions
"""


def test_functions_that_run_with_our_rights_use_no_temporary_types_or_tables(
    books: Books, direct_database_url: str
) -> None:
    """The app lets a user change payments, in a session full of their own temporary objects."""
    types = "".join(
        f"CREATE DOMAIN pg_temp.{name} AS pg_catalog.{name} CHECK (pg_temp.hostile());"
        for name in NAMES
    )
    tables = "".join(f"CREATE TEMPORARY TABLE {name} (hostile int);" for name in TABLES)
    with stranger(direct_database_url) as attacker:
        books.execute("""
            GRANT USAGE ON SCHEMA payments TO stranger;
            GRANT ALL ON payments.transactions, payments.stripe_subscriptions TO stranger""")
        hostile = TEMPORARY_TYPES + types + tables
        attacker.execute(hostile + INSERTS + CHANGES + INSERTS)
        assert books.row(COUNTED) == {"payments": 1500, "subscriptions": 1}
        attacker.execute(hostile + TRUNCATE)
        assert books.row(COUNTED) == {"payments": None, "subscriptions": None}


@pytest.mark.parametrize(
    "function",
    ["note_daily_change", "note_subscription_change", "clear_totals", "touch_updated_at"],
)
def test_other_users_cannot_attach_our_trigger_functions_to_tables_of_their_own(
    books: Books, direct_database_url: str, function: str
) -> None:
    with stranger(direct_database_url) as attacker:
        for granted in ("SELECT", "GRANT USAGE ON SCHEMA billhook TO stranger"):
            books.execute(granted)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                attacker.execute(
                    "CREATE TEMPORARY TABLE mine (id int); CREATE TRIGGER t AFTER INSERT ON mine "
                    f"FOR EACH ROW EXECUTE FUNCTION billhook.{function}()"
                )


def test_other_users_cannot_call_any_function_of_ours(
    books: Books, direct_database_url: str
) -> None:
    with stranger(direct_database_url):
        books.execute("GRANT USAGE ON SCHEMA billhook TO stranger")
        open_now = books.rows("""
            SELECT p.proname FROM pg_catalog.pg_proc p
            WHERE p.pronamespace = 'billhook'::regnamespace::oid
              AND pg_catalog.has_function_privilege('stranger', p.oid, 'EXECUTE')""")
    assert open_now == []


def test_a_schema_that_another_user_made_in_billhooks_name_is_not_used(
    postgres: EmbeddedPostgres, empty_database_url: str
) -> None:
    name = urlsplit(empty_database_url).path.removeprefix("/")
    direct = postgres.dsn(name)
    with stranger(direct) as attacker:
        Books(direct).execute(f'GRANT CREATE ON DATABASE "{name}" TO stranger')
        attacker.execute("""
            CREATE SCHEMA billhook;
            CREATE TABLE billhook.function_files (name text, checksum text)""")
        with pytest.raises(MigrationError, match="belongs to the database user stranger"):
            asyncio.run(migrate(direct))
