"""The database: one pool, and two kinds of transaction.

`as_service` uses Billhook's own permissions. `as_caller` uses the caller's: it is the only place
that changes the role, and the role comes from an allow-list. Neither is held open during a request
to Stripe.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias, TypeVar, get_args

import asyncpg
import orjson
from asyncpg.pool import PoolConnectionProxy

from billhook.database_url import dsn_of
from billhook.errors import DatabaseUnavailable, SettingsError
from billhook.postgres import sessions

Role = Literal["anon", "authenticated", "project_admin"]
ROLES: frozenset[str] = frozenset(get_args(Role))

# Quoted: asyncpg's classes only accept type arguments in their stubs.
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]"

# Deadlocks and other conflicts in which PostgreSQL rolls a transaction back.
COLLISIONS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.InvalidSQLStatementNameError,  # see `Database`: the next connection has the statement
)
_ATTEMPTS = 5
PATIENCE = 30.0
"""Default time limit of a statement, in seconds."""
LONG_PATIENCE = 6 * 3600.0
"""Time limit of a statement that may read or write every row of an environment, in seconds."""

_IS_PREPARED = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements
    WHERE statement LIKE '%billhook looks for this statement%')
"""

T = TypeVar("T")

# What asyncpg raises while PostgreSQL is unavailable, restarting, full or failing over.
UNAVAILABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # interrupted between two steps of asyncpg
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ProtocolViolationError,  # PgBouncer's error for a server that it cannot reach
    asyncpg.ReadOnlySQLTransactionError,
)

# PostgreSQL responds, but not to this user, or it has no such database.
_WRONG_ADDRESS = (
    asyncpg.InvalidAuthorizationSpecificationError,  # includes a wrong password
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
)

# Of these, the ones that mean that nothing was executed.
_REFUSED_BY_SERVER = (
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.ReadOnlySQLTransactionError,
)


class Database:
    """A pool of connections to the app's PostgreSQL, directly or through a pooler in transaction
    mode, which is detected (docs/explanation/operations.md).

    Triggers and policies of the app run in our sessions. Nothing that they set there reaches
    another transaction: sessions are reset (postgres/sessions.py).

    All timestamps are `timestamptz`; `jsonb` values are Python objects on both sides.

    Args:
        pool: the application's own, which it opens and closes: see `open`.
    """

    def __init__(
        self,
        dsn: str,
        *,
        pool_size: int = 10,
        acquire_timeout: float = 10.0,
        pool: asyncpg.Pool[asyncpg.Record] | None = None,
    ) -> None:
        self._given = pool
        self._dsn = dsn_of(dsn)
        self._pool_size = pool_size
        self._acquire_timeout = acquire_timeout
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._pooled = False

    @property
    def pool_size(self) -> int:
        """Connections that the pool may hold."""
        return self._pool_size if self._given is None else self._given.get_max_size()

    async def open(self) -> None:
        """Open the pool.

        Raises:
            DatabaseUnavailable: PostgreSQL does not respond.
            SettingsError: the given pool lacks options that Billhook needs, PostgreSQL's isolation
            level is not supported, or the database is not in UTF-8.
        """
        if self._given is not None:
            self._pool = self._given
            async with self._acquired() as connection:
                self._pooled = await is_behind_a_pooler(connection)
                await _require_own_statements(connection, pooled=self._pooled)
                await require_utf8(connection)
                await _require_read_committed(connection)
            return
        try:
            probe = await asyncpg.connect(self._dsn, timeout=10, statement_cache_size=0)
            try:
                self._pooled = await is_behind_a_pooler(probe)
                await require_utf8(probe)
                await _require_read_committed(probe)
            finally:
                await probe.close()
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=1,
                max_size=self._pool_size,
                init=prepare_connection,
                reset=_require_ended,
                command_timeout=PATIENCE,
                server_settings={"application_name": "billhook"},
                # A pooler may give each transaction another session: then no statement may be
                # prepared in one and used in the next.
                statement_cache_size=0 if self._pooled else 100,
            )
        except (*UNAVAILABLE, asyncpg.PostgresError) as error:
            raise no_answer(error) from error

    async def close(self) -> None:
        """Close the pool, letting running transactions finish for a moment."""
        if self._pool is not None and self._given is None:
            await self._pool.close()
        self._pool = None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection for a single statement.

        Raises:
            DatabaseUnavailable: PostgreSQL is unavailable; the caller gets a 503 and may retry.
        """
        if self._pooled:
            async with self.as_service() as connection:
                yield connection
            return
        async with self._acquired(autocommit=True) as connection:
            try:
                yield connection
            except BaseException:
                await sessions.reset_or_close(connection)
                raise
            await sessions.reset_or_close(connection)

    async def execute(self, statement: str, *args: object) -> None:
        """Run a single statement that returns nothing, as `connection` does."""
        async with self.connection() as connection:
            await connection.execute(statement, *args)

    @asynccontextmanager
    async def as_service(
        self,
        isolation: Literal["read_committed", "repeatable_read"] = "read_committed",
        *,
        resets_itself: bool = False,
    ) -> AsyncIterator[Connection]:
        """A transaction with Billhook's own permissions.

        Args:
            resets_itself: its last statement ends with `billhook.reset_session()`, which saves a
            message to PostgreSQL.

        Raises:
            DatabaseUnavailable: as `connection`.
        """
        async with self._acquired() as connection:
            transaction = connection.transaction(isolation=isolation)
            try:
                await transaction.start()
                yield connection
                if not resets_itself:
                    await sessions.reset(connection)
            except BaseException:
                await sessions.roll_back(connection, transaction)
                raise
            try:
                await transaction.commit()
            except UNAVAILABLE as error:
                raise _unavailable(error, may_be_saved=True) from error

    @asynccontextmanager
    async def _acquired(self, *, autocommit: bool = False) -> AsyncIterator[Connection]:
        """A connection of the pool, to be returned with its session reset.

        Args:
            autocommit: each statement is its own transaction.
        """
        if self._pool is None:
            raise DatabaseUnavailable("The database pool is not open.")
        may_be_saved = False
        try:
            async with self._pool.acquire(timeout=self._acquire_timeout) as connection:
                may_be_saved = autocommit
                try:
                    yield connection
                except asyncpg.InvalidSQLStatementNameError:
                    # A trigger has deallocated asyncpg's prepared statements.
                    sessions.close(connection)
                    raise
        except asyncpg.PostgresWarning as notice:
            # A trigger of the app raised with a code that means no error, such as `no_data`.
            # asyncpg's class for that is immutable and cannot be propagated.
            error = asyncpg.RaiseError(str(notice.args[0]))
            error.context = notice.context
            raise error from None
        except UNAVAILABLE as error:
            if isinstance(error, ValueError):
                raise  # asyncpg's class for an argument that does not fit its type
            raise _unavailable(error, may_be_saved=may_be_saved) from error

    @asynccontextmanager
    async def as_caller(self, role: Role, claims: Mapping[str, Any]) -> AsyncIterator[Connection]:
        """A transaction with the caller's permissions: row-level security applies (contract §2).

        Args:
            role: one of the three roles; anything else is a programming error and rejected.
            claims: becomes `request.jwt.claims`, which `auth.uid()` and friends read.
        """
        if role not in ROLES:
            raise ValueError(f"not a caller's role: {role!r}")
        async with self.as_service() as connection:
            await connection.execute(
                "SELECT pg_catalog.set_config('role', $1, true),"
                " pg_catalog.set_config('request.jwt.claims', $2, true)",
                role,
                json.dumps(claims),  # orjson does not support integers beyond 64 bits
            )
            yield connection


def no_answer(error: Exception) -> DatabaseUnavailable:
    """The error for a connection that cannot be opened."""
    reason = " ".join(str(error).split()) or "no connection was available in time."
    if isinstance(error, _WRONG_ADDRESS):
        return DatabaseUnavailable(
            f"PostgreSQL refused the connection: {reason}",
            next_actions="Check the user, the password and the database in DATABASE_URL.",
        )
    return DatabaseUnavailable(
        f"PostgreSQL does not respond: {reason}",
        next_actions="Check that PostgreSQL is running and that DATABASE_URL is correct.",
    )


async def repeat_collisions(work: Callable[[], Awaitable[T]]) -> T:
    """Repeat `work`, a whole transaction, if it collided with another one and was rolled back."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return await work()
        except COLLISIONS:
            continue
    return await work()


async def is_behind_a_pooler(connection: Connection) -> bool:
    """Whether there is a pooler between Billhook and PostgreSQL that shares sessions.

    PostgreSQL sends each client the id of its process, for cancel requests. A pooler, such as
    PgBouncer, has to invent one, which differs from the id of the process that responds.
    """
    # Without parameters, asyncpg prepares nothing that a pooler would leave in another session.
    process = connection.get_server_pid()
    return await connection.execute(f"SELECT WHERE pg_backend_pid() = {process}") == "SELECT 0"


def _unavailable(error: Exception, *, may_be_saved: bool) -> DatabaseUnavailable:
    """
    Args:
        may_be_saved: a commit was in progress; PostgreSQL's response to it may have been lost.
    """
    changed = (
        "It is not known whether the last change was saved."
        if may_be_saved and not isinstance(error, _REFUSED_BY_SERVER)
        else "Nothing was changed; try again."
    )
    return DatabaseUnavailable(
        f"The database is not available just now. {changed}",
        next_actions="Retry in a few seconds; if it persists, check DATABASE_URL and the "
        "PostgreSQL server.",
    )


async def _require_own_statements(connection: Connection, *, pooled: bool) -> None:
    """Check that the application's pool was created as Billhook needs it.

    Raises:
        SettingsError: it caches statements behind a pooler, or does not read jsonb.
    """
    if pooled and await _caches_statements(connection):
        raise SettingsError(
            "The given pool caches prepared statements, but there is a connection pooler between "
            "it and PostgreSQL (such as PgBouncer in transaction mode): create it with "
            "asyncpg.create_pool(…, statement_cache_size=0, init=billhook.prepare_connection)."
        )
    if await connection.fetchval("SELECT '{}'::jsonb") != {}:
        raise SettingsError(
            "The given pool does not decode jsonb as Billhook needs it: create it with "
            "asyncpg.create_pool(…, init=billhook.prepare_connection)."
        )


async def _caches_statements(connection: Connection) -> bool:
    try:
        async with connection.transaction():  # one session for all steps of a statement
            return bool(await connection.fetchval(_IS_PREPARED))
    except (asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError):
        return True


async def require_utf8(connection: Connection) -> None:
    """Make sure that the database can store every name that Stripe sends.

    Raises:
        SettingsError: its encoding is not UTF8.
    """
    encoding = await connection.fetchval("SHOW server_encoding")
    if encoding != "UTF8":
        raise SettingsError(
            f"The database's encoding is {encoding}, which cannot store every name that Stripe "
            "sends. Create one with CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and "
            "set DATABASE_URL to it."
        )


async def _require_read_committed(connection: Connection) -> None:
    level = await connection.fetchval("SHOW default_transaction_isolation")
    if level != "read committed":
        raise SettingsError(
            f"PostgreSQL's default_transaction_isolation is {level!r}: concurrent events would "
            "miss each other. Billhook needs 'read committed': ALTER ROLE … (or DATABASE …) "
            "SET default_transaction_isolation = 'read committed', and start again."
        )


def _encode_json(value: object) -> str:
    return orjson.dumps(value).decode()


async def _require_ended(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Replaces asyncpg's own reset, because `Database` resets sessions. A connection whose commit
    was cancelled may still be in its transaction."""
    if connection.is_in_transaction():
        connection.terminate()


async def prepare_connection(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Prepares the connections of a pool for Billhook: use it as `init` of `asyncpg.create_pool`.
    `jsonb` values are then Python objects in both directions."""
    await connection.set_type_codec(
        "jsonb", encoder=_encode_json, decoder=orjson.loads, schema="pg_catalog"
    )
