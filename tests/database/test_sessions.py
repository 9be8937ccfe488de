"""What a trigger leaves in its session never reaches another transaction, on no path."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

import aside
from billhook.errors import BillhookError, DatabaseUnavailable, SettingsError
from billhook.kinds import KINDS
from billhook.ledger import Ledger, decode, transaction
from billhook.mirror import fetching
from billhook.postgres import Database, prepare_connection, sessions
from billhook.postgres.leases import try_lease
from billhook.projections import project
from books import apply_one
from pooler import Pooler, running
from stripe_events import customer, event, payload

# Everything that PostgreSQL keeps for a session.
LEAVE_BEHIND = """
CREATE FUNCTION public.leave_behind() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM nextval('public.fired');  -- whatever becomes of the transaction
    SET session_replication_role = replica;
    SET statement_timeout = '5ms';
    SET default_transaction_read_only = on;
    SET search_path = nowhere;
    PERFORM pg_catalog.set_config('app.tenant', 'somebody', false);
    PERFORM pg_catalog.pg_advisory_lock(42), pg_catalog.pg_advisory_lock_shared(43);
    EXECUTE 'CREATE TEMPORARY TABLE pg_temp.customers (id text)';
    EXECUTE 'CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS ''SELECT 1''';
    EXECUTE 'LISTEN billhook_left';
    EXECUTE 'PREPARE left_behind AS SELECT 1';
    EXECUTE 'DECLARE left_open CURSOR WITH HOLD FOR SELECT 1';
    SET ROLE anon;
    {then}
    RETURN NULL;
END $$;
CREATE SEQUENCE public.fired;
CREATE POLICY anybody ON payments.stripe_checkout_sessions TO authenticated WITH CHECK (true);
GRANT USAGE ON SEQUENCE public.fired TO PUBLIC;
"""
TRIGGERS = {
    "immediate": "CREATE TRIGGER leave_behind AFTER INSERT OR UPDATE ON {table} FOR EACH ROW "
    "{when} EXECUTE FUNCTION public.leave_behind()",
    "deferred": "CREATE CONSTRAINT TRIGGER leave_behind AFTER INSERT OR UPDATE ON {table} "
    "DEFERRABLE INITIALLY DEFERRED FOR EACH ROW {when} EXECUTE FUNCTION public.leave_behind()",
}
LEFT = """
SELECT to_jsonb(array_remove(ARRAY[
    CASE WHEN current_user <> session_user THEN 'role ' || current_user END,
    (SELECT string_agg(name || ' = ' || setting, ', ') FROM pg_settings WHERE source = 'session'
        AND name NOT IN ('application_name', 'client_encoding', 'DateStyle', 'TimeZone',
            'standard_conforming_strings', 'transaction_read_only', 'transaction_isolation',
            'transaction_deferrable')),
    nullif(current_setting('app.tenant', true), ''),
    (SELECT 'lock ' || string_agg(objid::text, ', ') FROM pg_locks
        WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT 'table ' || string_agg(relname, ', ') FROM pg_class
        WHERE relnamespace = pg_my_temp_schema()),
    (SELECT 'function ' || string_agg(proname, ', ') FROM pg_proc
        WHERE pronamespace = pg_my_temp_schema()),
    (SELECT 'listens to ' || string_agg(c, ', ') FROM pg_listening_channels() c),
    (SELECT 'prepared ' || string_agg(name, ', ') FROM pg_prepared_statements WHERE from_sql),
    (SELECT 'cursor ' || string_agg(name, ', ') FROM pg_cursors WHERE is_holdable)
], NULL)) AS left
"""

WAIT_UNTIL_FIRED = """
DO $$ BEGIN
    WHILE NOT (SELECT is_called FROM public.fired) LOOP
        PERFORM pg_sleep(0.01);
    END LOOP;
END $$
"""

DSN_OF_POOL = "postgresql://localhost/unused"

Work = Callable[[Database], Coroutine[Any, Any, Any]]


class Server:
    """One session of a database, directly or through a pooler, and what is left in it."""

    def __init__(self, dsn: str, direct: str) -> None:
        self.dsn = dsn
        self.direct = direct

    def prepare(self, table: str, trigger: str, then: str = "") -> None:
        """Add a trigger that leaves everything behind."""

        async def work() -> None:
            connection = await asyncpg.connect(self.direct)
            await connection.execute(LEAVE_BEHIND.replace("{then}", then))
            processed = "WHEN (NEW.processing_status = 'processed')"
            when = processed if table == "payments.webhook_events" else ""
            await connection.execute(TRIGGERS[trigger].format(table=table, when=when))
            await connection.close()

        aside.run(work())

    def left_after(self, work: Work) -> list[str]:
        """What the next transaction in the same session finds."""

        async def run() -> list[str]:
            async with self.opened() as database:
                await work(database)
                if self.dsn != self.direct:
                    await database.close()  # PgBouncer gives the one session to the next client
                    other = await asyncpg.connect(self.dsn, statement_cache_size=0)
                    await prepare_connection(other)
                    left = await other.fetchval(LEFT)
                    await other.close()
                else:
                    async with database.connection() as connection:
                        left = await connection.fetchval(LEFT)
            direct = await asyncpg.connect(self.direct)
            assert await direct.fetchval("SELECT is_called FROM public.fired")
            await direct.close()
            return list(left)

        return aside.run(run())

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Database]:
        database = Database(self.dsn, pool_size=1)
        await database.open()
        try:
            yield database
        finally:
            await database.close()


@pytest.fixture(params=["directly", "behind a pooler"])
def server(
    request: pytest.FixtureRequest, direct_database_url: str, postgres: Any
) -> Iterator[Server]:
    if request.param == "directly":
        yield Server(direct_database_url, direct_database_url)
    else:
        with running(postgres, sessions=1) as pooler:
            name = urlsplit(direct_database_url).path.removeprefix("/")
            yield Server(pooler.dsn(name), direct_database_url)


async def _event(database: Database) -> None:
    await apply_one(database, event("customer.created", customer()))


async def _retried_event(database: Database) -> None:
    async with try_lease(database, "retries") as lease:
        delivery = decode(payload(event("customer.created", customer())))
        await _swallow(Ledger(database).record("test", delivery, lease))


async def _synced(database: Database) -> None:
    gateway: Any = None
    reader = fetching.StripeReader(database, gateway, "test")
    await _swallow(fetching.write_one(reader, KINDS["customer"], customer(), 1_780_000_000))


async def _checkout(database: Database) -> None:
    insert = """
        INSERT INTO payments.stripe_checkout_sessions
            (environment, mode, success_url, cancel_url, subject_type, subject_id)
        VALUES ('test', 'payment', 'https://a.example', 'https://b.example', 'team', 't1')"""
    async with database.as_caller("authenticated", {"sub": "u1"}) as connection:
        await connection.execute(insert)


async def _administration(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute(
            """INSERT INTO payments.provider_connections (provider, environment, status)
            VALUES ('stripe', 'test', 'connected')
            ON CONFLICT (provider, environment) DO UPDATE SET status = EXCLUDED.status"""
        )


async def _swallow(work: Coroutine[Any, Any, Any]) -> None:
    with suppress(BillhookError, asyncpg.PostgresError):
        await work


PATHS = [
    ("payments.webhook_events", _event),
    ("payments.webhook_events", _retried_event),
    ("payments.customers", _event),
    ("payments.customers", _synced),
    ("payments.stripe_checkout_sessions", _checkout),
    ("payments.provider_connections", _administration),
]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("trigger", ["immediate", "deferred"])
@pytest.mark.parametrize("then", ["", "RAISE EXCEPTION 'no stock left';"], ids=["", "raises"])
@pytest.mark.parametrize(
    ("table", "path"), PATHS, ids=[f"{path.__name__}-{table}" for table, path in PATHS]
)
def test_nothing_that_a_trigger_leaves_in_its_session_reaches_the_next_transaction(
    server: Server, table: str, path: Work, then: str, trigger: str
) -> None:
    server.prepare(table, trigger, then)

    async def work(database: Database) -> None:
        await _swallow(path(database))

    assert server.left_after(work) == []


@pytest.mark.parametrize("trigger", ["immediate", "deferred"])
def test_a_transaction_that_is_cancelled_leaves_nothing_behind(
    server: Server, trigger: str
) -> None:
    server.prepare("payments.webhook_events", trigger, "PERFORM pg_catalog.pg_sleep(60);")

    async def work(database: Database) -> None:
        fired = await asyncpg.connect(server.direct)
        cancelled = asyncio.create_task(_retried_event(database))
        await fired.execute(WAIT_UNTIL_FIRED)
        await fired.close()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    assert server.left_after(work) == []


def test_a_repeated_delivery_resets_its_session_as_the_first_one_does(
    direct_database_url: str,
) -> None:
    told = event("customer.created", customer())

    async def work() -> str | None:
        database = Database(direct_database_url, pool_size=1)
        await database.open()
        await apply_one(database, told)
        delivery = decode(payload(told))
        async with database.as_service(resets_itself=True) as connection:
            # As a policy of the app may, where row-level security is forced on the ledger.
            await connection.execute("SELECT set_config('app.tenant', 'somebody', false)")
            await transaction.apply_batch(
                connection, "test", [transaction.Work(delivery, project(delivery.event))]
            )
        async with database.connection() as connection:
            left = await connection.fetchval("SELECT current_setting('app.tenant', true)")
        await database.close()
        return left or None

    assert aside.run(work()) is None


def test_events_go_on_after_a_trigger_deallocated_the_statements_of_its_session(
    server: Server,
) -> None:
    """They are asyncpg's, which does not know that they are gone."""

    async def work(database: Database) -> None:
        first = await apply_one(database, event("customer.created", customer("cus_1")))
        second = await apply_one(database, event("customer.created", customer("cus_2")))
        assert [first["processing_status"], second["processing_status"]] == ["processed"] * 2

    server.prepare("payments.webhook_events", "immediate", "EXECUTE 'DEALLOCATE ALL';")
    assert server.left_after(work) == []


def test_a_session_that_cannot_be_reset_is_closed(
    direct_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody reads the temporary table that a trigger left, for example."""
    monkeypatch.setattr(sessions, "_TIMEOUT", 0.2)

    async def run() -> None:
        database = Database(direct_database_url, pool_size=1)
        await database.open()
        other = await asyncpg.connect(direct_database_url)
        async with database.connection() as connection:
            process = await connection.fetchval("SELECT pg_backend_pid()")
            await connection.execute("CREATE TABLE pg_temp.kept ()")
            schema = await connection.fetchval("SELECT pg_my_temp_schema()::regnamespace::text")
            lock = other.transaction()
            await lock.start()
            await other.execute(f"LOCK TABLE {schema}.kept IN ACCESS EXCLUSIVE MODE")
        await lock.rollback()
        async with database.connection() as connection:
            assert await connection.fetchval("SELECT pg_backend_pid()") != process
            assert await connection.fetchval(LEFT) == []
        await other.close()
        await database.close()

    aside.run(run())


def test_the_sessions_of_a_pool_of_the_applications_are_reset(direct_database_url: str) -> None:
    server = Server(direct_database_url, direct_database_url)
    server.prepare("payments.webhook_events", "immediate")

    async def run() -> None:
        async with asyncpg.create_pool(
            direct_database_url, min_size=1, max_size=1, init=prepare_connection
        ) as pool:
            database = Database(DSN_OF_POOL, pool=pool)
            await database.open()
            await _event(database)
            async with pool.acquire() as connection:
                assert await connection.fetchval(LEFT) == []

    aside.run(run())


@pytest.mark.parametrize("options", [{}, {"statement_cache_size": 7}])
def test_a_pool_that_caches_statements_behind_a_pooler_is_refused_at_the_start(
    pooler: Pooler, database_url: str, options: dict[str, int]
) -> None:
    name = urlsplit(database_url).path.removeprefix("/")

    async def run() -> None:
        async with asyncpg.create_pool(
            pooler.dsn(name), min_size=1, init=prepare_connection, **options
        ) as pool:
            await Database(DSN_OF_POOL, pool=pool).open()

    with pytest.raises(SettingsError, match=r"=0, init=billhook\.prepare_connection"):
        aside.run(run())


def test_a_pool_without_cached_statements_works_behind_a_pooler(
    pooler: Pooler, database_url: str
) -> None:
    name = urlsplit(database_url).path.removeprefix("/")

    async def run() -> None:
        async with asyncpg.create_pool(
            pooler.dsn(name), min_size=1, init=prepare_connection, statement_cache_size=0
        ) as pool:
            database = Database(DSN_OF_POOL, pool=pool)
            await database.open()
            answer = await apply_one(database, event("customer.created", customer()))
            assert answer["processing_status"] == "processed"

    aside.run(run())


CONNECT = """
INSERT INTO payments.provider_connections (provider, environment, status)
VALUES ('stripe', 'test', 'connected')
"""


@pytest.mark.parametrize(
    ("lost_with", "whole_transaction", "message", "saved"),
    [
        (b"provider_connections", True, "Nothing was changed", 0),
        (b"COMMIT;", True, "It is not known whether the last change was saved", 1),
        (b"provider_connections", False, "It is not known whether the last change was saved", 1),
    ],
)
def test_nothing_was_changed_is_not_said_when_only_the_answer_to_a_commit_was_lost(
    direct_database_url: str, lost_with: bytes, whole_transaction: bool, message: str, saved: int
) -> None:
    async def run() -> int:
        async with losing_the_answer_to(lost_with, direct_database_url) as dsn:
            database = Database(dsn, pool_size=1)
            await database.open()
            opened = database.as_service() if whole_transaction else database.connection()
            with pytest.raises(DatabaseUnavailable, match=message):
                async with opened as connection:
                    await connection.execute(CONNECT)
            await database.close()
        direct = await asyncpg.connect(direct_database_url)
        found = await direct.fetchval("SELECT count(*) FROM payments.provider_connections")
        await direct.close()
        return int(found)

    assert aside.run(run()) == saved


@asynccontextmanager
async def losing_the_answer_to(message: bytes, dsn: str) -> AsyncIterator[str]:
    """A proxy before PostgreSQL that cuts a connection when `message` has been answered, and keeps
    the answer."""
    to = urlsplit(dsn)
    host = parse_qs(to.query).get("host", [to.hostname or ""])[0]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if host.startswith("/"):
            server = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{to.port or 5432}")
        else:
            server = await asyncio.open_connection(host, to.port)
        lost = asyncio.Event()

        async def ask() -> None:
            while data := await reader.read(65536):
                if message in data:
                    lost.set()
                server[1].write(data)

        async def answer() -> None:
            while data := await server[0].read(65536):
                if lost.is_set():
                    break
                writer.write(data)
            writer.close()

        await asyncio.gather(ask(), answer())
        server[1].close()

    proxy = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = proxy.sockets[0].getsockname()[1]
    try:
        yield f"postgresql://{to.username}@127.0.0.1:{port}{to.path}"
    finally:
        proxy.close()
