"""Rows of Billhook's tables that users read and change as the policies allow.

Both need row-level security: without it, every user would have the rights of all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import asyncpg

from billhook.errors import DatabaseBusy, Forbidden
from billhook.postgres import Connection, Database, Role
from billhook.postgres.refusals import acting_as_caller
from billhook.settings import Environment

_IS_ON = "SELECT pg_catalog.row_security_active($1::text)"
_LIMIT_WAIT = "SELECT pg_catalog.set_config('lock_timeout', '2s', true)"
# PostgreSQL applies the SELECT and the UPDATE policies to this. It writes nothing, fires no
# trigger, and neither waits for an event that updates the row nor delays one.
_MAY_CHANGE = "SELECT true FROM {} WHERE environment = $1 AND {} = $2 FOR KEY SHARE"


@asynccontextmanager
async def as_user(
    database: Database, role: Role, claims: Mapping[str, Any], table: str
) -> AsyncIterator[Connection]:
    """`acting_as_caller`, if policies restrict what the caller sees. Raises as that, and:

    Raises:
        Forbidden: row-level security is off on `table`, or the role bypasses it.
    """
    async with acting_as_caller(database, role, claims, table) as connection:
        # Administrators see everything in any case.
        if role != "project_admin" and not await connection.fetchval(_IS_ON, table):
            raise Forbidden(
                f"Row-level security is off on {table}, so users have no access to it.",
                next_actions=f"Run: ALTER TABLE {table} ENABLE ROW LEVEL SECURITY. If it is on, "
                f"the role {role} bypasses it: ALTER ROLE {role} NOBYPASSRLS.",
            )
        yield connection


async def may_change(
    connection: Connection, table: str, key: str, environment: Environment, object_id: str
) -> bool:
    """Whether the caller may see and change a row.

    Args:
        connection: of `as_user`.
        key: the column with the object's id.

    Raises:
        DatabaseBusy: the row is being deleted, or locked by the app, for too long.
    """
    await connection.execute(_LIMIT_WAIT)
    try:
        found = await connection.fetchval(_MAY_CHANGE.format(table, key), environment, object_id)
    except asyncpg.LockNotAvailableError as error:
        raise DatabaseBusy(
            f"{object_id} is locked by another transaction. Nothing was changed.",
            next_actions="Send the same request again in a few seconds.",
        ) from error
    return bool(found)


@dataclass(frozen=True, slots=True)
class UsersConnections:
    """Connections on which statements run as the caller, for a list of `table`."""

    database: Database
    role: Role
    claims: Mapping[str, Any]
    table: str

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One of them, in a transaction. Raises as `as_user` does."""
        async with as_user(self.database, self.role, self.claims, self.table) as connection:
            yield connection
