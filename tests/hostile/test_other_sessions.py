"""What other users of the database try from sessions of their own."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import asyncpg
import pytest

from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import MigrationError, migrate
from books import Books
from strangers import stranger


def test_other_users_cannot_attach_our_trigger_function_to_tables_of_their_own(
    books: Books, direct_database_url: str
) -> None:
    with stranger(direct_database_url) as attacker:
        for granted in ("SELECT", "GRANT USAGE ON SCHEMA billhook TO stranger"):
            books.execute(granted)
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                attacker.execute(
                    "CREATE TEMPORARY TABLE mine (id int); CREATE TRIGGER t AFTER INSERT ON mine "
                    "FOR EACH ROW EXECUTE FUNCTION billhook.touch_updated_at()"
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
