"""Rejections by the app's own rules (policies, keys, triggers): distinguishing them from an outage,
and turning them into the contract's errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import asyncpg

from billhook.errors import (
    BillhookError,
    DatabaseDuplicate,
    DatabaseRefused,
    DatabaseUnavailable,
    Forbidden,
)
from billhook.postgres import Connection, Database, Role
from billhook.redact import redact

# The app's checks and keys, values its policies could not cast, its triggers' RAISE EXCEPTION.
_REFUSED = (
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.DataError,
    asyncpg.RaiseError,
)
# PostgreSQL's error context begins with the innermost function: an app's trigger comes before our
# functions that made it fire. In each language a line names the function's language and the
# function itself: `PL/pgSQL function f() line 1 at RAISE`, `PL/Python function "f"`, `fonction
# PL/pgSQL f(), ligne 1 à RAISE`.
_IN_FUNCTION = re.compile(r"^.*PL/\w.*$", re.MULTILINE)
_OF_BILLHOOK = re.compile(r'(?<![A-Za-z0-9_$."])"?billhook"?\."?\w+"?\(')
_NOT_A_UUID = (
    "If your user ids are not UUIDs, use auth.jwt() ->> 'sub' instead of auth.uid() in your "
    "policies and triggers."
)
# The place in PostgreSQL's source where a row violates a policy; it does not depend on the language
# of messages.
_POLICY_CHECK = "ExecWithCheckOptions"


def refusal_in(error: asyncpg.PostgresError | DatabaseUnavailable) -> asyncpg.PostgresError:
    """The rejection, if it is not an outage. A trigger of the app may raise an error that looks
    like one, if another database that it uses is unavailable.

    Raises:
        DatabaseUnavailable: PostgreSQL itself is unavailable, full, or read-only (a standby after a
            failover).
    """
    if isinstance(error, asyncpg.PostgresError):
        return error
    cause = error.__cause__
    if isinstance(cause, asyncpg.PostgresError) and is_of_the_app(cause):
        return cause
    raise error


def is_of_the_app(error: asyncpg.PostgresError) -> bool:
    """Whether a function of the app raised it, and the server continues."""
    where = _IN_FUNCTION.search(error.context or "")
    return where is not None and not _OF_BILLHOOK.search(where[0])


def place_of(error: asyncpg.PostgresError) -> str | None:
    """The function and line that raised, for the log. The statement is omitted, because it may
    quote rows."""
    where = _IN_FUNCTION.search(error.context or "")
    return where[0] if where else None


def reason_of(error: asyncpg.PostgresError | BillhookError) -> str:
    """The message of the app's rule. Not its DETAIL, which may quote rows: callers and Stripe see
    the message. Of an error of Billhook, its message."""
    if isinstance(error, BillhookError):
        return error.message
    return redact(str(error.args[0])) if error.args else "refused"


@asynccontextmanager
async def writing_outcome(database: Database, table: str) -> AsyncIterator[Connection]:
    """A connection for writing Stripe's response; rejections by the app's rules become errors.

    Raises:
        DatabaseDuplicate, DatabaseRefused: a key, check or trigger of the app's.
    """
    with refusals_of(table):
        async with database.connection() as connection:
            yield connection


@asynccontextmanager
async def acting_as_caller(
    database: Database, role: Role, claims: Mapping[str, Any], table: str
) -> AsyncIterator[Connection]:
    """`Database.as_caller`; rejections by the rules on `table` become errors.

    Raises:
        Forbidden: row-level security or a missing grant (SQLSTATE 42501); names the table.
        DatabaseDuplicate, DatabaseRefused: a key, check or trigger of the app's.
    """
    with refusals_of(table):
        async with database.as_caller(role, claims) as connection:
            yield connection


@contextmanager
def refusals_of(table: str) -> Iterator[None]:
    """Rejections by the rules on `table` become errors.

    Raises:
        Forbidden, DatabaseDuplicate, DatabaseRefused: see `acting_as_caller`.
    """
    try:
        yield
    except asyncpg.PostgresError as error:
        refusal = _refusal(error, table)
        if refusal is None:
            raise
        raise refusal from error


@contextmanager
def replacing_rows(problem: str) -> Iterator[None]:
    """For a transaction that replaces the rows of an environment: rejections by the app's rules
    become errors. It encloses the transaction, because deferred rules reject its commit.

    Args:
        problem: the beginning of the message.

    Raises:
        DatabaseRefused: a foreign key, check or trigger of the app's.
    """
    try:
        yield
    except (asyncpg.IntegrityConstraintViolationError, asyncpg.RaiseError) as error:
        raise DatabaseRefused(
            f"{problem}: {reason_of(error)}",
            next_actions="Fix the app's constraint or trigger that prevents it, or the row that it "
            "names. No rows were changed.",
        ) from error


@contextmanager
def unfinished(what: str) -> Iterator[None]:
    """For the steps after the first commit: if PostgreSQL is then unavailable, something has
    already been changed.

    Raises:
        DatabaseUnavailable: says so.
    """
    try:
        yield
    except DatabaseUnavailable as error:
        raise DatabaseUnavailable(
            f"The database is not available just now, and the {what} is not finished.",
            next_actions="Send the same request again in a few seconds, with its idempotencyKey "
            "if it has one, to complete it.",
        ) from error.__cause__


def _refusal(error: asyncpg.PostgresError, table: str) -> BillhookError | None:
    message = reason_of(error)
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        if error.server_source_function != _POLICY_CHECK:
            return Forbidden(
                f"{table}: {message}.",
                next_actions="If it is a table or function that the policies and triggers of "
                f"{table} use, grant the caller's role what they need: GRANT SELECT ON … TO …",
            )
        return Forbidden(
            f"The RLS policies of {table} do not allow this.",
            next_actions=f"Sign in as a user who may bill this subject, or change the policies "
            f"of {table}.",
        )
    if isinstance(error, asyncpg.UniqueViolationError):
        return DatabaseDuplicate(f"{table}: {message}")
    if isinstance(error, _REFUSED):
        refused = DatabaseRefused(f"{table}: {message}")
        if isinstance(error, asyncpg.InvalidTextRepresentationError) and "uuid" in message:
            refused.next_actions = _NOT_A_UUID
        return refused
    return None
