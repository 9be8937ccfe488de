"""The schema: numbered migrations, and the current text of every SQL function.

`schema/NNNN_name.sql` is history: each file is applied once, in order, and never changed after a
release. `functions/name.sql` is the present: a file is applied whenever its checksum differs from
the one that the database holds. `schema/adoption.sql` runs once, when the schema is created.

Safe to run from several processes at once: each waits for the other and finds the work done.
Everything happens in one transaction, so a failed migration changes nothing. The exception:
a migration with `CREATE INDEX CONCURRENTLY IF NOT EXISTS` builds the indexes of large tables
outside of a transaction, one after the other, without blocking writers, and contains nothing else.
No search_path is fixed for these statements, so they name all schemas and types (decision 10).
Migrations adopt objects of InsForge or Supabase and never drop what they did not create.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import asyncpg
import structlog

from billhook.database_url import dsn_of
from billhook.errors import BillhookError
from billhook.kinds import TABLES
from billhook.postgres import access_rule, grants, no_answer, readers, require_utf8, rights

log = structlog.get_logger(__name__)

LOCK_PATIENCE = 60.0
"""Seconds for which a migration tries to get the locks that it needs."""
LOCK_PAUSE = 0.5
"""Seconds to wait after the first try, longer after each further one."""

# Two databases of one cluster may create the same roles at the same moment.
_TRANSIENT = (asyncpg.InternalServerError, asyncpg.UniqueViolationError)
_ATTEMPTS = 5

_LOCK = """
SELECT WHERE pg_catalog.pg_try_advisory_xact_lock(
    pg_catalog.hashtextextended('billhook.migrate'::text, 0::bigint))
"""
_LOOK_EVERY = 0.1
"""Seconds until a process that waits for another one's migration looks again."""
_SAY_EVERY = 60.0
"""Seconds after which it logs again which process it waits for."""
_MIGRATING = """
SELECT a.pid, a.usename, a.application_name, date_trunc('second', now() - a.xact_start)::text AS age
FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid
  AND (l.classid::bigint << 32 | l.objid::bigint)
      = pg_catalog.hashtextextended('billhook.migrate'::text, 0::bigint)
"""
_TABLES = """
    DO $$ BEGIN  -- IF NOT EXISTS asks for the right to create one where there is one, too
        IF to_regnamespace('billhook') IS NULL THEN CREATE SCHEMA billhook; END IF;
    END $$;
    CREATE TABLE IF NOT EXISTS billhook.migrations (
        number     integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
    CREATE TABLE IF NOT EXISTS billhook.function_files (
        name       text PRIMARY KEY,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
"""
_RECORD_MIGRATION = "INSERT INTO billhook.migrations (number, name, checksum) VALUES ($1, $2, $3)"
_RECORD_FUNCTIONS = """
    INSERT INTO billhook.function_files (name, checksum) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET checksum = EXCLUDED.checksum, applied_at = now()
"""
_FORGET_FUNCTIONS = "DELETE FROM billhook.function_files WHERE name <> ALL ($1::text[])"
# After the lock, because another process's migration may take long.
_LIMIT_WAITS = "SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = 0"
_HOLDER = """
SELECT a.pid, a.usename, a.application_name, l.relation::regclass::text AS relation,
    date_trunc('second', now() - a.xact_start)::text AS age
FROM pg_catalog.pg_locks l
JOIN pg_catalog.pg_class c ON c.oid = l.relation
JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
WHERE l.granted AND l.pid <> pg_catalog.pg_backend_pid()
  AND c.relnamespace IN (to_regnamespace('payments')::oid, to_regnamespace('billhook')::oid)
ORDER BY a.xact_start LIMIT 1
"""
_IS_INVALID = """
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_index
    WHERE indexrelid = to_regclass($1)::oid AND NOT indisvalid)
"""
# The index is in the schema of its table.
_INDEX = re.compile(
    r"CREATE (?:UNIQUE )?INDEX CONCURRENTLY IF NOT EXISTS (\w+)\s+ON (\w+)\.\w+[^;]*;"
)
# None of our names are resolved in a schema where other users may create objects (decision 10).
_FIX_SEARCH_PATH = """
    SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL quote_all_identifiers = off
"""
_SET_SEARCH_PATH = "SELECT pg_catalog.set_config('search_path', $1, true)"
# Functions may call each other, in whichever order their files are applied.
_DEFER_BODY_CHECKS = "SET LOCAL check_function_bodies = off"


class MigrationError(BillhookError):
    """The schema cannot be migrated; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One `schema/NNNN_name.sql`."""

    number: int
    name: str
    sql: str

    @property
    def full_name(self) -> str:
        return f"{self.number:04d}_{self.name}"

    @property
    def concurrently(self) -> bool:
        """Whether it builds indexes without blocking writers; then it does nothing else."""
        return "CONCURRENTLY" in self.sql

    def index_statements(self) -> list[tuple[str, str]]:
        """Each index, and the statement that builds it."""
        return [(f"{found[2]}.{found[1]}", found[0]) for found in _INDEX.finditer(self.sql)]

    @property
    def checksum(self) -> str:
        return _checksum(self.sql)


# Tables with a column `updated_at` that are not those of a mirrored kind.
_TOUCHED = (
    *("provider_connections", "customer_mappings", "stripe_checkout_sessions"),
    *("stripe_customer_portal_sessions", "webhook_events", "transactions", "access_settings"),
)
_VALUES = {
    "touch_triggers": "\n".join(
        f"CREATE OR REPLACE TRIGGER billhook_touch_updated_at BEFORE UPDATE ON payments.{table}"
        " FOR EACH ROW EXECUTE FUNCTION billhook.touch_updated_at();"
        for table in (*_TOUCHED, *TABLES)
    ),
    **access_rule.VALUES,
}


@dataclass(frozen=True, slots=True)
class FunctionFile:
    """One `functions/name.sql`: functions, and Billhook's triggers that call them.

    As in psql, `:payments` and `:billhook` stand for schemas: a rebuild has functions of the same
    text for tables elsewhere. `:touch_triggers` stands for a trigger of each table with a column
    `updated_at`, and the names in access_rule.py for its expressions.
    """

    name: str
    text: str

    @property
    def sql(self) -> str:
        """Its text for the schemas `payments` and `billhook`."""
        return self.sql_for(payments="payments", billhook="billhook")

    def sql_for(self, **schemas: str) -> str:
        """Its text for other schemas."""
        values = schemas | _VALUES
        return re.sub(rf"(?<!:):({'|'.join(values)})\b", lambda name: values[name[1]], self.text)

    @property
    def checksum(self) -> str:
        return _checksum(self.sql)


@cache
def migrations() -> tuple[Migration, ...]:
    """All migrations, in order."""
    found = []
    for entry in _folder("schema").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda migration: migration.number))


@cache
def function_files() -> tuple[FunctionFile, ...]:
    """The current text of all SQL functions, by file name."""
    found = [
        FunctionFile(entry.name.removesuffix(".sql"), entry.read_text(encoding="utf-8"))
        for entry in _folder("functions").iterdir()
        if entry.name.endswith(".sql")
    ]
    return tuple(sorted(found, key=lambda file: file.name))


async def migrate(dsn: str) -> list[str]:
    """Migrate the database at `dsn` to the current schema.

    Returns:
        The names of the files applied now; empty if there was nothing to do.

    Raises:
        DatabaseUnavailable: PostgreSQL does not respond.
        MigrationError: a migration failed, the database is newer than this version of Billhook, or
            a development version made it.
        SettingsError: the database is not in UTF-8.
    """
    try:
        # No cached statements: behind a pooler, they would stay in another client's session.
        connection = await asyncpg.connect(dsn_of(dsn), timeout=10, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        raise no_answer(error) from error
    try:
        await require_utf8(connection)
        return await _apply_in_turn(connection, dsn)
    except asyncpg.PostgresError as error:
        hint = getattr(error, "hint", None)
        raise MigrationError(f"The migration failed: {error}", next_actions=hint) from error
    finally:
        await connection.close()


async def _apply_in_turn(connection: asyncpg.Connection[asyncpg.Record], dsn: str) -> list[str]:
    """Apply what is missing: one transaction, unless an index must be built outside of any."""
    done: list[str] = []
    while True:
        applied, next_step = await _apply_with_patience(connection)
        done += applied
        if next_step is None:
            return done
        if await _build_indexes(connection, dsn, next_step):
            done.append(next_step.full_name)


async def _apply_with_patience(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[list[str], Migration | None]:
    """`_apply`, repeated while others hold locks.

    Readers and writers of a table queue behind a migration that waits for that table. So it waits
    only briefly, lets them through, and tries again.
    """
    deadline = time.monotonic() + LOCK_PATIENCE
    attempt = 0
    while True:
        attempt += 1
        try:
            return await _apply(connection)
        except asyncpg.LockNotAvailableError as error:
            if time.monotonic() > deadline:
                raise await _blocked(connection) from error
            await asyncio.sleep(min(attempt * LOCK_PAUSE, 5))
        except _TRANSIENT:
            if attempt >= _ATTEMPTS:
                raise


async def _blocked(connection: asyncpg.Connection[asyncpg.Record]) -> MigrationError:
    async with _fixed_search_path(connection):
        holder = await connection.fetchrow(_HOLDER)
    if holder is None:
        return MigrationError(
            "The migration could not lock the tables that it changes: other processes use them.",
            next_actions="Run `billhook migrate` again.",
        )
    return MigrationError(
        f"The migration could not lock the tables that it changes: process {holder['pid']} "
        f"(user {holder['usename']}, application {holder['application_name']!r}) has used "
        f"{holder['relation']} in a transaction for {holder['age']}.",
        next_actions="Wait until that transaction ends, or end it: "
        f"SELECT pg_terminate_backend({holder['pid']}); then run `billhook migrate` again.",
    )


@asynccontextmanager
async def _fixed_search_path(
    connection: asyncpg.Connection[asyncpg.Record],
) -> AsyncIterator[None]:
    """A transaction: behind a pooler, a setting of the session would stay in it."""
    async with connection.transaction():
        await connection.execute(_FIX_SEARCH_PATH)
        yield


@asynccontextmanager
async def _alone(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[str]:
    """A transaction in which no other process migrates; yields the search_path that it had.

    Each try is a transaction of its own. An index that another process builds concurrently waits
    for the end of every transaction that had a snapshot when it looked.
    """
    say_at = time.monotonic() + 1
    while True:
        async with connection.transaction():
            search_path: str = await connection.fetchval("SHOW search_path")
            await connection.execute(_FIX_SEARCH_PATH)
            if await connection.execute(_LOCK) != "SELECT 0":
                yield search_path
                return
            is_time = time.monotonic() >= say_at
            holder = await connection.fetchrow(_MIGRATING) if is_time else None
        if holder is not None:
            say_at = time.monotonic() + _SAY_EVERY
            log.warning(
                "waiting for another process, which holds the lock of migrations",
                **holder,
                next_actions="If it is no migration of Billhook's, end it: "
                f"SELECT pg_terminate_backend({holder['pid']});",
            )
        await asyncio.sleep(_LOOK_EVERY)


async def _apply(
    connection: asyncpg.Connection[asyncpg.Record],
) -> tuple[list[str], Migration | None]:
    """Apply what can be applied in one transaction. Returns what was applied, and the migration
    that must follow outside of a transaction, if any."""
    async with _alone(connection) as search_path:
        await connection.execute(_LIMIT_WAITS)
        await _require_trusted_owners(connection)
        applied = await _applied(connection)
        missing = [each for each in migrations() if each.number not in applied]
        files = await _changed_files(connection)
        if not missing and not files and not await rights.forced(connection):
            return [], None
        if problems := await rights.missing(connection):
            raise MigrationError(
                "The database user lacks privileges: "
                + " ".join(each.problem for each in problems),
                next_actions="Run as an administrator of the database: "
                + " ".join(f"{each.statement};" for each in problems),
            )
        before = await grants.read(connection)
        await connection.execute(_TABLES)
        first = not applied
        done: list[str] = []
        for each in missing:
            if each.concurrently and not first:
                await grants.settle(connection, before, is_first=False)
                return done, each
            # No one uses the tables of a new schema yet, so its indexes can be built here.
            await connection.execute(each.sql.replace("CONCURRENTLY", "") if first else each.sql)
            await readers.keep_reading(connection, each.number)
            await connection.execute(_RECORD_MIGRATION, each.number, each.name, each.checksum)
            done.append(each.full_name)
        # Those of other versions. Their functions stay: a server that still runs may call them.
        await connection.execute(_FORGET_FUNCTIONS, [each.name for each in function_files()])
        await connection.execute(_DEFER_BODY_CHECKS)
        for file in files:
            await connection.execute(file.sql)
            await connection.execute(_RECORD_FUNCTIONS, file.name, file.checksum)
            done.append(f"functions/{file.name}")
        await grants.settle(connection, before, is_first=first)
        done += await rights.open_forced(connection)
        if first:
            # It updates rows, so triggers of the app may run. They need their usual search_path.
            await connection.execute(_SET_SEARCH_PATH, search_path)
            await connection.execute(_folder("schema").joinpath("adoption.sql").read_text())
    return done, None


async def _require_trusted_owners(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    if found := await rights.foreign_owners(connection):
        raise MigrationError(
            " ".join(each.problem for each in found), next_actions=rights.take_over(found)
        )


async def _build_indexes(
    connection: asyncpg.Connection[asyncpg.Record], dsn: str, migration: Migration
) -> bool:
    """Build the indexes of a migration without blocking writers, unless another process has.

    An unfinished index (the process was killed, a value was not unique) is invalid: it is dropped
    first.
    """
    guard = await asyncpg.connect(dsn_of(dsn), timeout=10, statement_cache_size=0)
    try:
        # The guard's transaction holds the lock, but no snapshot that the build would wait for.
        async with _alone(guard):
            return await _build(connection, migration)
    finally:
        await guard.close()


async def _build(connection: asyncpg.Connection[asyncpg.Record], migration: Migration) -> bool:
    async with _fixed_search_path(connection):
        if migration.number in await _applied(connection):
            return False
    for name, statement in migration.index_statements():
        async with _fixed_search_path(connection):
            is_invalid = await connection.fetchval(_IS_INVALID, name)
        if is_invalid:
            await connection.execute(f"DROP INDEX CONCURRENTLY {name}")
        await connection.execute(statement)
    async with _fixed_search_path(connection):
        await connection.execute(
            _RECORD_MIGRATION, migration.number, migration.name, migration.checksum
        )
    return True


async def _applied(connection: asyncpg.Connection[asyncpg.Record]) -> set[int]:
    """The numbers of the migrations that the database has.

    Raises:
        MigrationError: it has an unknown migration, or a different version of one.
    """
    if await connection.fetchval("SELECT to_regclass('billhook.migrations')") is None:
        return set()
    known = {each.number: each for each in migrations()}
    rows = await connection.fetch(
        "SELECT number, name, checksum FROM billhook.migrations ORDER BY number"
    )
    for row in rows:
        _require_known(row, known.get(row["number"]))
    return {row["number"] for row in rows}


def _require_known(row: asyncpg.Record, migration: Migration | None) -> None:
    if migration is None:
        raise MigrationError(
            f"This database is newer than this version of Billhook: it has migration "
            f"{row['number']:04d}_{row['name']}.",
            next_actions="Run the newest version of Billhook that has used this database.",
        )
    if row["checksum"] != migration.checksum:
        raise MigrationError(
            f"This database was created by a development version of Billhook (its migration "
            f"{row['number']:04d}_{row['name']} differs), which has no upgrade path.",
            next_actions="Use a new database. For `make run`, delete the folder .billhook.",
        )


async def _changed_files(connection: asyncpg.Connection[asyncpg.Record]) -> list[FunctionFile]:
    if await connection.fetchval("SELECT to_regclass('billhook.function_files')") is None:
        return list(function_files())
    rows = await connection.fetch("SELECT name, checksum FROM billhook.function_files")
    applied = {row["name"]: row["checksum"] for row in rows}
    return [file for file in function_files() if applied.get(file.name) != file.checksum]


def _folder(name: str) -> Traversable:
    return resources.files("billhook.postgres").joinpath(name)


def _checksum(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()
