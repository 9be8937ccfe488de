"""What other users of the database try from sessions of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest

import insforge
from billhook.doctor.database import owners
from billhook.doctor.finding import Finding
from billhook.postgres import Database
from billhook.postgres.embedded import EmbeddedPostgres
from billhook.postgres.migrate import MigrationError, migrate
from books import Books
from strangers import as_user, stranger


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


@dataclass
class Hosted:
    """An empty database, in which Billhook and a stranger are plain users, and both may create
    schemas."""

    name: str
    administrator: Books
    billhook: Books
    attacker: Books


@pytest.fixture
def hosted(postgres: EmbeddedPostgres, books: Books, empty_database_url: str) -> Iterator[Hosted]:
    """`books`: a migration before this one made the callers' roles."""
    name = urlsplit(empty_database_url).path.removeprefix("/")
    direct = postgres.dsn(name)
    administrator = Books(direct)
    with stranger(direct) as attacker:
        administrator.execute(f"""
            CREATE ROLE plain LOGIN; GRANT anon, authenticated, project_admin TO plain;
            GRANT CREATE ON DATABASE "{name}" TO plain, stranger""")
        try:
            yield Hosted(name, administrator, Books(as_user(direct, "plain")), attacker)
        finally:
            administrator.execute(f"""
                ALTER DATABASE "{name}" OWNER TO postgres; DROP OWNED BY stranger CASCADE;
                DROP OWNED BY plain CASCADE; DROP ROLE plain""")


def examined(books: Books) -> list[Finding]:
    async def work(database: Database) -> list[Finding]:
        return [each async for each in owners(database)]

    return books.run(work)


@pytest.mark.parametrize("user", ["plain", "postgres"])
@pytest.mark.parametrize("schema", ["billhook", "payments", "system", "auth"])
@pytest.mark.sampled(4)
def test_a_schema_that_another_user_made_before_billhook_is_refused_until_that_user_is_trusted(
    hosted: Hosted, schema: str, user: str
) -> None:
    """The owner of a schema may replace its tables, with triggers that run as Billhook, and
    functions such as auth.uid(), which says who a caller is."""
    hosted.attacker.execute(f"CREATE SCHEMA {schema}; GRANT ALL ON SCHEMA {schema} TO PUBLIC")
    billhook = hosted.billhook if user == "plain" else hosted.administrator
    problem = f"The schema {schema} belongs to the database user stranger."
    with pytest.raises(MigrationError, match=problem) as refused:
        asyncio.run(migrate(billhook.dsn))
    (found,) = examined(billhook)
    assert (found.check, found.state, found.message) == ("owners", "broken", problem)
    assert found.next_actions == refused.value.next_actions
    statement = str(found.next_actions).partition("administrator of the database: ")[2]
    hosted.administrator.execute(statement.partition(";")[0])
    asyncio.run(migrate(billhook.dsn))
    assert examined(billhook) == []


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ("system", "CREATE TABLE system.secrets (id int)"),
        ("payments", "CREATE TABLE payments.transactions (id int)"),
        ("auth", "CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql RETURN NULL::uuid"),
    ],
)
def test_what_another_user_made_in_a_schema_of_the_administrator_is_refused(
    hosted: Hosted, schema: str, made: str
) -> None:
    hosted.administrator.execute(f"CREATE SCHEMA {schema}; GRANT ALL ON SCHEMA {schema} TO PUBLIC")
    hosted.attacker.execute(made)
    with pytest.raises(
        MigrationError, match=r"\w+\.\w+(\(\))? belongs to the database user stranger"
    ):
        asyncio.run(migrate(hosted.billhook.dsn))


@pytest.mark.parametrize(
    "owner",
    [
        "ALTER SCHEMA payments OWNER TO postgres",
        'ALTER DATABASE "{name}" OWNER TO stranger; ALTER SCHEMA payments OWNER TO stranger',
        "ALTER SCHEMA payments OWNER TO pg_database_owner",
        "ALTER SCHEMA payments OWNER TO stranger; GRANT stranger TO plain",
    ],
)
@pytest.mark.sampled(2)
def test_schemas_of_those_who_are_above_billhook_are_adopted(hosted: Hosted, owner: str) -> None:
    """As on a host that prepares them, or of InsForge's, whose tables Billhook was given."""
    insforge.make_payments(hosted.billhook)
    hosted.administrator.execute(owner.format(name=hosted.name))
    hosted.administrator.execute("GRANT ALL ON SCHEMA payments TO plain")
    asyncio.run(migrate(hosted.billhook.dsn))
    assert examined(hosted.billhook) == []


def test_supabases_schema_auth_is_adopted_as_it_is(hosted: Hosted) -> None:
    """Its service `auth` owns it, and is no superuser: it says who the callers are anyway."""
    hosted.administrator.execute("""
        CREATE ROLE supabase_auth_admin;
        CREATE SCHEMA auth AUTHORIZATION supabase_auth_admin;
        CREATE FUNCTION auth.jwt() RETURNS jsonb LANGUAGE sql RETURN '{}'::jsonb;
        CREATE FUNCTION auth.uid() RETURNS uuid LANGUAGE sql RETURN NULL::uuid;
        CREATE FUNCTION auth.role() RETURNS text LANGUAGE sql RETURN 'anon'::text;
        CREATE FUNCTION auth.email() RETURNS text LANGUAGE sql RETURN ''::text;
        ALTER FUNCTION auth.uid() OWNER TO supabase_auth_admin;
        GRANT USAGE ON SCHEMA auth TO PUBLIC""")
    try:
        asyncio.run(migrate(hosted.billhook.dsn))
        assert examined(hosted.billhook) == []
        assert hosted.billhook.row("SELECT auth.role() AS it") == {"it": "anon"}
    finally:
        hosted.administrator.execute(
            "DROP OWNED BY supabase_auth_admin CASCADE; DROP ROLE supabase_auth_admin"
        )
