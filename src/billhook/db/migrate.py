"""Plain SQL migrations: numbered, checksummed, applied under a lock.

Safe to run from several processes at once: each waits for the other and finds the work done.
Everything happens in one transaction, so a failed migration leaves nothing behind. Migrations
adopt what InsForge or Supabase already made and never drop what they did not make.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib import resources

import asyncpg

from billhook.errors import BillhookError, DatabaseUnavailable

# Two databases of one cluster that create the same roles at the same moment.
_TRANSIENT = (asyncpg.InternalServerError, asyncpg.UniqueViolationError)
_ATTEMPTS = 5

_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('billhook.migrate', 0))"
_TABLE = """
    CREATE SCHEMA IF NOT EXISTS billhook;
    CREATE TABLE IF NOT EXISTS billhook.migrations (
        number     integer PRIMARY KEY,
        name       text NOT NULL,
        checksum   text NOT NULL,
        applied_at timestamptz NOT NULL DEFAULT now()
    );
"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One `NNNN_name.sql` beside this module."""

    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


class MigrationError(BillhookError):
    """The schema cannot be brought up to date; the message says why and what to do."""


def migrations() -> list[Migration]:
    """All migrations, in order."""
    found = []
    for entry in resources.files("billhook.db").joinpath("migrations").iterdir():
        if match := re.fullmatch(r"(\d{4})_(\w+)\.sql", entry.name):
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
    return sorted(found, key=lambda migration: migration.number)


async def migrate(dsn: str) -> list[str]:
    """Bring the database at `dsn` up to date.

    Returns:
        The names of the migrations applied now; empty when there was nothing to do.

    Raises:
        DatabaseUnavailable: PostgreSQL does not answer.
        MigrationError: a migration failed, or an applied one was changed afterwards.
    """
    try:
        # No cached statements: behind a pooler they would stay in a session of somebody else's.
        connection = await asyncpg.connect(dsn, timeout=10, statement_cache_size=0)
    except (OSError, TimeoutError, asyncpg.PostgresError) as error:
        raise DatabaseUnavailable(f"PostgreSQL does not answer: {error}") from error
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
    applied_now = []
    async with connection.transaction():
        await connection.execute(_LOCK)
        await connection.execute(_TABLE)
        done = {
            row["number"]: row["checksum"]
            for row in await connection.fetch("SELECT number, checksum FROM billhook.migrations")
        }
        for migration in migrations():
            if migration.number not in done:
                await connection.execute(migration.sql)
                await connection.execute(
                    "INSERT INTO billhook.migrations (number, name, checksum) VALUES ($1, $2, $3)",
                    migration.number,
                    migration.name,
                    migration.checksum,
                )
                applied_now.append(f"{migration.number:04d}_{migration.name}")
            elif done[migration.number] != migration.checksum:
                raise MigrationError(
                    f"Migration {migration.number:04d}_{migration.name} was applied in another "
                    "form than this version of Billhook holds.",
                    next_actions="Run the Billhook version that made this database, or a newer "
                    "one.",
                )
    return applied_now
