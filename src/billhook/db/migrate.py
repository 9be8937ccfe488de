"""The schema: numbered migrations, and the current text of every SQL function.

`schema/NNNN_name.sql` is history: each file is applied once, in order, and never changed after a
release. `functions/name.sql` is the present: a file is applied whenever its checksum differs from
the one that the database holds. `schema/adoption.sql` runs once, when the schema is created.

Safe to run from several processes at once: each waits for the other and finds the work done.
Everything happens in one transaction, so a failed migration leaves nothing behind. Migrations
adopt what InsForge or Supabase already made and never drop what they did not make.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable

import asyncpg

from billhook.database_url import dsn_of
from billhook.db import grants, no_answer
from billhook.errors import BillhookError

# Two databases of one cluster that create the same roles at the same moment.
_TRANSIENT = (asyncpg.InternalServerError, asyncpg.UniqueViolationError)
_ATTEMPTS = 5

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('billhook.migrate', 0))"
_TABLES = """
    CREATE SCHEMA IF NOT EXISTS billhook;
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
# Nothing of ours is resolved in a schema where other users may create objects (invariant I10).
_FIX_SEARCH_PATH = "SET LOCAL search_path = pg_catalog, pg_temp"
_SET_SEARCH_PATH = "SELECT pg_catalog.set_config('search_path', $1, true)"
# Functions may call each other, whichever file comes first.
_DEFER_BODY_CHECKS = "SET LOCAL check_function_bodies = off"


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
    def checksum(self) -> str:
        return _checksum(self.sql)


@dataclass(frozen=True, slots=True)
class FunctionFile:
    """One `functions/name.sql`: functions, and the triggers of ours that call them."""

    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return _checksum(self.sql)


class MigrationError(BillhookError):
    """The schema cannot be brought up to date; the message says why and what to do."""


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
    """Bring the database at `dsn` up to date.

    Returns:
        The names of the files applied now; empty when there was nothing to do.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
        MigrationError: a migration failed, the database is newer than this version of Billhook, or
            a development version made it.
    """
    try:
        # No cached statements: behind a pooler they would stay in a session of somebody else's.
        connection = await asyncpg.connect(dsn_of(dsn), timeout=10, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.InterfaceError, asyncpg.PostgresError) as error:
        raise no_answer(error) from error
    try:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await _apply(connection)
            except _TRANSIENT:
                if attempt == _ATTEMPTS:
                    raise
        raise AssertionError("unreachable")
    except asyncpg.PostgresError as error:
        hint = getattr(error, "hint", None)
        raise MigrationError(f"The migration failed: {error}", next_actions=hint) from error
    finally:
        await connection.close()


async def _apply(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    async with connection.transaction():
        search_path = await connection.fetchval("SHOW search_path")
        await connection.execute(_FIX_SEARCH_PATH)
        await connection.execute(_LOCK)
        before = await grants.read(connection)
        await connection.execute(_TABLES)
        migrated = await _apply_migrations(connection)
        replaced = await _apply_functions(connection)
        is_first = migrations()[0].full_name in migrated
        if migrated or replaced:
            await grants.settle(connection, before, is_first=is_first)
        if is_first:
            # It updates rows, so triggers of the app may run: they find what they always find.
            await connection.execute(_SET_SEARCH_PATH, search_path)
            await connection.execute(_folder("schema").joinpath("adoption.sql").read_text())
    return migrated + replaced


async def _apply_migrations(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    applied = {
        row["number"]: row
        for row in await connection.fetch("SELECT number, name, checksum FROM billhook.migrations")
    }
    known = {migration.number: migration for migration in migrations()}
    for number, row in sorted(applied.items()):
        _require_known(row, known.get(number))
    missing = [known[number] for number in sorted(known.keys() - applied.keys())]
    for migration in missing:
        await connection.execute(migration.sql)
        await connection.execute(
            _RECORD_MIGRATION, migration.number, migration.name, migration.checksum
        )
    return [migration.full_name for migration in missing]


def _require_known(row: asyncpg.Record, migration: Migration | None) -> None:
    if migration is None:
        raise MigrationError(
            f"This database is newer than this version of Billhook: it has migration "
            f"{row['number']:04d}_{row['name']}.",
            next_actions="Run the newest version of Billhook that has used this database.",
        )
    if row["checksum"] != migration.checksum:
        raise MigrationError(
            f"This database was made by a development version of Billhook (its migration "
            f"{row['number']:04d}_{row['name']} is another one), which has no upgrade path.",
            next_actions="Use a new database. For `make run`, delete the folder .billhook.",
        )


async def _apply_functions(connection: asyncpg.Connection[asyncpg.Record]) -> list[str]:
    applied = {
        row["name"]: row["checksum"]
        for row in await connection.fetch("SELECT name, checksum FROM billhook.function_files")
    }
    changed = [file for file in function_files() if applied.get(file.name) != file.checksum]
    await connection.execute(_DEFER_BODY_CHECKS)
    for file in changed:
        await connection.execute(file.sql)
        await connection.execute(_RECORD_FUNCTIONS, file.name, file.checksum)
    return [f"functions/{file.name}" for file in changed]


def _folder(name: str) -> Traversable:
    return resources.files("billhook.db").joinpath(name)


def _checksum(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()
