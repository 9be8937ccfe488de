"""PostgreSQL 14 to 18, whatever it is set to, and a user who owns a database and no more."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import pytest

import aside
import insforge
import servers
from billhook.account import archived_rows
from billhook.doctor.database import forced
from billhook.doctor.finding import Finding
from billhook.errors import Forbidden
from billhook.ledger import EventNotApplied
from billhook.mirror import archives
from billhook.mirror.rebuild import rebuild
from billhook.models import CustomersQuery, RebuildOrder
from billhook.postgres import Database
from billhook.postgres.embedded import temporary
from billhook.postgres.migrate import MigrationError, migrate
from billhook.postgres.refusals import acting_as_caller, is_of_the_app
from billhook.reports.lists.customers import customers
from billhook.reports.overview import overview
from books import Books, final_state
from stripe_events import customer, event
from stripe_lives import LIFE

ROLES = ("anon", "authenticated", "project_admin")
NEWEST = 18
_names = count()

pytestmark = pytest.mark.sampled(4)  # the oldest and the newest


@dataclass
class Place:
    """A database whose owner is nothing else, and how its server's administrator gets there."""

    books: Books
    administrator: Books
    owner: str


@pytest.fixture(scope="module", params=[*servers.VERSIONS, NEWEST], ids=str)
def server(request: pytest.FixtureRequest) -> Iterator[Any]:
    if request.param == NEWEST:
        yield request.getfixturevalue("postgres")
        return
    with (
        tempfile.TemporaryDirectory(prefix=f"billhook-{request.param}-") as folder,
        servers.running(request.param, Path(folder)) as found,
    ):
        yield found


@pytest.fixture
def newest(postgres: Any) -> Iterator[Place]:
    yield from place_on(postgres)


@pytest.fixture
def place(server: Any) -> Iterator[Place]:
    yield from place_on(server)


def place_on(server: Any) -> Iterator[Place]:
    name = f"owned_{next(_names)}"
    superuser = Books(server.dsn())
    for role in ROLES:
        superuser.execute(
            f"DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN END $$"
        )
    superuser.execute(f"CREATE ROLE {name} LOGIN")
    superuser.execute(f"GRANT {', '.join(ROLES)} TO {name}")
    superuser.execute(f"CREATE DATABASE {name} OWNER {name}")
    address = server.dsn(name)
    yield Place(
        Books(address.replace("postgresql://postgres@", f"postgresql://{name}@")),
        Books(address),
        name,
    )
    superuser.execute(f"DROP DATABASE {name} WITH (FORCE)")
    superuser.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


INSERT = """
INSERT INTO payments.stripe_checkout_sessions (environment, mode, success_url, cancel_url)
VALUES ('test', 'payment', 'https://a.example', 'https://b.example') RETURNING id
"""
EVERY_TABLE = (
    *("provider_connections", "stripe_products", "stripe_prices", "customers"),
    *("customer_mappings", "stripe_checkout_sessions", "stripe_customer_portal_sessions"),
    *("stripe_subscriptions", "stripe_subscription_items", "webhook_events", "transactions"),
)


def works(books: Books) -> None:
    """Events, checkout, rebuild, archives and lists do what they do everywhere."""
    books.apply(*LIFE)
    expected = final_state(books)
    assert all(row for table, row in expected.items() if table == "transactions")

    async def rest(database: Database) -> None:
        async with acting_as_caller(
            database, "authenticated", {"sub": "u1"}, "payments.stripe_checkout_sessions"
        ) as connection:
            row_id = await connection.fetchval(INSERT)
        async with database.as_service() as connection:
            await connection.execute(
                "DELETE FROM payments.stripe_checkout_sessions WHERE id = $1", row_id
            )
        async with database.connection() as connection:
            await connection.execute("DELETE FROM payments.transactions")
        rebuilt = await rebuild(database, "test", RebuildOrder(swap=True))
        assert {each.table for each in rebuilt.tables if each.different} == {
            "payments.transactions"
        }
        async with database.as_service() as connection:
            archive = await archived_rows.archive(connection, "test", None)
        assert await archives.restore(database, archive) > 0
        today = datetime.now(UTC).date()
        assert (await overview(database, "test", 7, today)).environment == "test"
        assert (await customers(database, "test", CustomersQuery())).rows

    books.run(rest)
    assert final_state(books) == expected


def test_a_plain_owner_of_a_database_is_enough_on_every_postgresql(place: Place) -> None:
    aside.run(migrate(place.books.dsn))
    works(place.books)


def test_quoted_identifiers_change_nothing(place: Place) -> None:
    place.administrator.execute(f"ALTER DATABASE {place.owner} SET quote_all_identifiers = on")
    aside.run(migrate(place.books.dsn))
    before = place.books.rows(FUNCTIONS)
    works(place.books)
    assert place.books.rows(FUNCTIONS) == before
    place.books.execute(REFUSE_AS_IN_AN_OUTAGE)
    (answer,) = place.books.apply(event("customer.created", customer("cus_out")))
    assert isinstance(answer, EventNotApplied)


FUNCTIONS = """
SELECT proname, md5(prosrc) FROM pg_proc WHERE pronamespace = 'billhook'::regnamespace ORDER BY 1
"""
REFUSE_AS_IN_AN_OUTAGE = """
CREATE FUNCTION public.ask() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not reach the warehouse' USING ERRCODE = '08001'; END $$;
CREATE TRIGGER ask AFTER UPDATE ON payments.webhook_events
    FOR EACH ROW WHEN (NEW.processing_status = 'processed') EXECUTE FUNCTION public.ask();
"""


def test_forced_row_level_security_does_not_lock_billhook_out(newest: Place) -> None:
    aside.run(migrate(newest.books.dsn))
    for table in EVERY_TABLE:
        newest.books.execute(
            f"ALTER TABLE payments.{table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
        )
    applied = aside.run(migrate(newest.books.dsn))
    assert applied == [
        f"policy billhook_service on payments.{each}" for each in sorted(EVERY_TABLE)
    ]
    assert aside.run(migrate(newest.books.dsn)) == []
    newest.books.execute("""
        CREATE POLICY anybody ON payments.stripe_checkout_sessions TO authenticated
            USING (true) WITH CHECK (true)
    """)
    works(newest.books)


def test_the_doctor_names_tables_whose_forced_policies_keep_billhook_out(newest: Place) -> None:
    async def found(database: Database) -> list[Finding]:
        return [each async for each in forced(database)]

    aside.run(migrate(newest.books.dsn))
    assert newest.books.run(found) == []
    newest.books.execute("""
        ALTER TABLE payments.customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        ALTER TABLE billhook.pulls ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    """)
    (only,) = newest.books.run(found)
    assert only.state == "broken"
    assert "own rows in: billhook.pulls, payments.customers." in only.message
    said, _, statements = str(only.next_actions).partition("\n")
    assert said.endswith(f"as the database user {newest.owner} run:")
    newest.books.execute(statements)
    assert newest.books.run(found) == []


def test_a_role_that_may_not_be_taken_is_named_with_the_statement_that_allows_it(
    newest: Place,
) -> None:
    for role in ROLES:
        newest.administrator.execute(f"GRANT {role} TO {newest.owner} WITH SET FALSE")
    with pytest.raises(MigrationError, match=f"{newest.owner} may not SET ROLE anon") as found:
        aside.run(migrate(newest.books.dsn))
    assert f"GRANT anon TO {newest.owner} WITH SET TRUE;" in str(found.value.next_actions)
    for role in ROLES:
        newest.administrator.execute(f"GRANT {role} TO {newest.owner} WITH SET TRUE")
    aside.run(migrate(newest.books.dsn))
    works(newest.books)


@pytest.mark.parametrize(
    ("obstacle", "problem", "statement"),
    [
        (
            "CREATE SCHEMA auth",
            "The schema auth belongs to postgres, and {me} may not create auth.jwt(), auth.uid(), "
            "auth.role(), auth.email() in it.",
            "GRANT USAGE, CREATE ON SCHEMA auth TO {me};",
        ),
        (
            "CREATE SCHEMA payments",
            "The schema payments belongs to postgres, and {me} may not create objects in it.",
            "GRANT USAGE, CREATE ON SCHEMA payments TO {me};",
        ),
        (
            insforge.schema() + "; GRANT ALL ON SCHEMA payments TO {me}",
            "The table payments.customers belongs to postgres, and only its owner may change it.",
            "ALTER TABLE payments.customers OWNER TO {me};",
        ),
        (
            "CREATE SCHEMA payments; GRANT ALL ON SCHEMA payments TO {me};"
            "CREATE FOREIGN DATA WRAPPER nowhere; CREATE SERVER old FOREIGN DATA WRAPPER nowhere;"
            "CREATE FOREIGN TABLE payments.transactions (id uuid) SERVER old",
            "payments.transactions is a foreign table of postgres, and Billhook needs a table of "
            "that name.",
            "ALTER FOREIGN TABLE payments.transactions RENAME TO transactions_before_billhook;",
        ),
        (
            "CREATE SCHEMA payments; GRANT ALL ON SCHEMA payments TO {me};"
            "CREATE VIEW payments.customers AS SELECT 1",
            "payments.customers is a view of postgres, and Billhook needs a table of that name.",
            "ALTER VIEW payments.customers RENAME TO customers_before_billhook;",
        ),
        (
            "ALTER DATABASE {me} OWNER TO postgres",
            "The schema billhook is missing, and {me} may not create one in the database {me}.",
            "GRANT CREATE ON DATABASE {me} TO {me};",
        ),
    ],
)
def test_a_missing_right_is_named_with_its_owner_and_the_statement_that_grants_it(
    newest: Place, obstacle: str, problem: str, statement: str
) -> None:
    me = newest.owner
    newest.administrator.execute(obstacle.replace("{me}", me))
    with pytest.raises(MigrationError) as found:
        aside.run(migrate(newest.books.dsn))
    assert problem.format(me=me) in found.value.message
    assert statement.format(me=me) in str(found.value.next_actions)
    told = str(found.value.next_actions).partition("Run as an administrator of the database: ")
    newest.administrator.execute(told[2])
    aside.run(migrate(newest.books.dsn))
    newest.books.apply(*LIFE)
    assert newest.books.rows("SELECT * FROM payments.transactions") != []


def test_a_missing_role_is_named_where_roles_cannot_be_created() -> None:
    """On a server of its own: roles belong to the whole cluster of the tests."""
    with temporary() as server:
        superuser = Books(server.dsn())
        superuser.execute("CREATE ROLE me LOGIN; CREATE ROLE anon; GRANT anon TO me")
        superuser.execute("CREATE DATABASE mine OWNER me")
        dsn = server.dsn("mine", "me")
        with pytest.raises(MigrationError) as found:
            aside.run(migrate(dsn))
        for role in ("authenticated", "project_admin"):
            assert (
                f"The role {role} is missing, and me may not create roles." in found.value.message
            )
        assert "role anon" not in found.value.message
        told = str(found.value.next_actions).partition("Run as an administrator of the database: ")
        assert told[2].count(";") == 4
        superuser.execute(told[2])
        aside.run(migrate(dsn))
        Books(dsn).apply(*LIFE)
        assert Books(dsn).rows("SELECT FROM payments.transactions") != []


def test_a_policy_that_reads_a_table_without_a_grant_is_told_in_postgresqls_own_words(
    newest: Place,
) -> None:
    aside.run(migrate(newest.books.dsn))
    newest.books.execute("""
        CREATE TABLE public.members (user_id text);
        ALTER TABLE payments.stripe_checkout_sessions ENABLE ROW LEVEL SECURITY;
        CREATE POLICY members ON payments.stripe_checkout_sessions TO authenticated
            USING (true) WITH CHECK (EXISTS (SELECT FROM public.members WHERE user_id = 'u1'));
    """)

    async def insert(database: Database) -> None:
        async with acting_as_caller(
            database, "authenticated", {"sub": "u1"}, "payments.stripe_checkout_sessions"
        ) as connection:
            await connection.execute(INSERT)

    with pytest.raises(Forbidden, match="permission denied for table members"):
        newest.books.run(insert)
    newest.books.execute("GRANT SELECT ON public.members TO authenticated")
    with pytest.raises(Forbidden, match=r"RLS policies of payments\.stripe_checkout_sessions"):
        newest.books.run(insert)


@pytest.fixture(scope="module")
def german() -> Iterator[Any]:
    """Debian's builds are translated; LANGUAGE picks the translation where the locale is no C."""
    major = next((each for each in servers.VERSIONS if servers.debian(each).exists()), None)
    if major is None:
        pytest.skip("needs a PostgreSQL of Debian's, whose messages are translated")
    with (
        tempfile.TemporaryDirectory(prefix="billhook-de-") as folder,
        servers.running(major, Path(folder), LANGUAGE="de") as found,
    ):
        yield found


def test_a_triggers_error_is_no_outage_when_postgresql_speaks_german(german: Any) -> None:
    for found in place_on(german):
        aside.run(migrate(found.books.dsn))
        found.administrator.execute(f"ALTER DATABASE {found.owner} SET lc_messages = 'C.UTF-8'")
        with pytest.raises(asyncpg.UndefinedTableError, match="existiert nicht"):
            found.books.rows("SELECT * FROM nowhere")
        found.books.execute(REFUSE_AS_IN_AN_OUTAGE)
        (answer,) = found.books.apply(event("customer.created", customer()))
        assert isinstance(answer, EventNotApplied)
        row = found.books.row("SELECT processing_status, last_error FROM payments.webhook_events")
        assert row == {
            "processing_status": "failed",
            "last_error": "could not reach the warehouse",
        }


@pytest.mark.parametrize(
    ("where", "is_the_apps"),
    [
        ("PL/pgSQL-Funktion fulfill() Zeile 3 bei RAISE", True),
        ("fonction PL/pgSQL fulfill(), ligne 3 à RAISE", True),
        ("PL/pgSQL関数fulfill()の3行目 - RAISE", True),
        ("在RAISE的第3行的PL/pgSQL函数fulfill()", True),
        ("fulfill() PL/pgSQL fonksiyonu, 3. satır, RAISE içinde", True),
        ("PL/pgSQL-Funktion billhook.mark(text) Zeile 3 bei SQL-Anweisung", False),
        ("fonction PL/pgSQL billhook.mark(text), ligne 3 à RAISE", False),
        ('PL/pgSQL関数"billhook"."mark"(text)の3行目 - RAISE', False),
        ("在RAISE的第3行的PL/pgSQL函数billhook.mark(text)", False),
        ("PL/pgSQL function mybillhook.mark(text) line 3 at RAISE", True),
    ],
)
def test_whose_error_it_is_is_read_in_every_language(where: str, is_the_apps: bool) -> None:
    error = asyncpg.DiskFullError("could not write")
    error.context = f'SQL-Anweisung "INSERT INTO payments.customers (id)"\n{where}'
    assert is_of_the_app(error) is is_the_apps


def test_sums_beyond_64_bits_are_shown(newest: Place) -> None:
    aside.run(migrate(newest.books.dsn))
    most = 2**63 - 1
    newest.books.apply(event("customer.created", customer()))
    newest.books.execute(f"""
        INSERT INTO payments.transactions (provider, environment, type, status,
            provider_object_type, provider_object_id, provider_customer_id, amount, currency,
            paid_at)
        SELECT 'stripe', 'test', 'one_time_payment', 'succeeded', 'payment_intent', 'pi_' || n,
            'cus_1', {most}, 'idr', now() FROM generate_series(1, 3) n
    """)

    async def shown(database: Database) -> tuple[Any, Any]:
        today = datetime.now(UTC).date()
        return (
            await overview(database, "test", 7, today),
            (await customers(database, "test", CustomersQuery())).rows[0],
        )

    found, spender = newest.books.run(shown)
    assert found.currencies[0].total.payments == 3 * most
    assert spender.total_spend == 3 * most
    assert str(3 * most).encode() in found.wire()
