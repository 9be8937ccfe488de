"""When the app's own rules refuse what we do as the caller: the contract's errors."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from billhook.db import Connection, Database, Role
from billhook.errors import BillhookError, DatabaseDuplicate, DatabaseRefused, Forbidden

# The app's checks and keys, values its policies could not cast, its triggers' RAISE EXCEPTION.
_REFUSED = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.RaiseError,
)


@asynccontextmanager
async def writing_outcome(database: Database, table: str) -> AsyncIterator[Connection]:
    """A connection for what Stripe answered, with what the app's rules say about it as an error.

    Raises:
        DatabaseDuplicate, DatabaseRefused: a key, check or trigger of the app's.
    """
    try:
        async with database.connection() as connection:
            yield connection
    except asyncpg.PostgresError as error:
        refusal = _refusal(error, table)
        if refusal is None:
            raise
        raise refusal from error


@asynccontextmanager
async def acting_as_caller(
    database: Database, role: Role, claims: Mapping[str, Any], table: str
) -> AsyncIterator[Connection]:
    """`Database.as_caller`, with what the rules on `table` say about it turned into errors.

    Raises:
        Forbidden: row-level security or a missing grant (SQLSTATE 42501); names the table.
        DatabaseDuplicate, DatabaseRefused: a key, check or trigger of the app's.
    """
    try:
        async with database.as_caller(role, claims) as connection:
            yield connection
    except asyncpg.PostgresError as error:
        refusal = _refusal(error, table)
        if refusal is None:
            raise
        raise refusal from error


def _refusal(error: asyncpg.PostgresError, table: str) -> BillhookError | None:
    # The message alone: DETAIL may quote rows that the caller may not see.
    message = str(error.args[0]) if error.args else "refused"
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return Forbidden(
            f"The RLS policies of {table} do not allow this.",
            next_actions=f"Sign in as somebody who may bill this subject, or change the policies "
            f"of {table}.",
        )
    if isinstance(error, asyncpg.UniqueViolationError):
        return DatabaseDuplicate(f"{table}: {message}")
    if isinstance(error, _REFUSED):
        return DatabaseRefused(f"{table}: {message}")
    return None
