"""Resets sessions: no state that the app's triggers and policies leave in one reaches another
transaction (docs/decisions/0009-sessions.md).

A transaction that succeeds resets its session as its last step, before the commit: behind a pooler,
that is the last opportunity. A transaction that fails is rolled back and its session reset in one
message, because session locks and prepared statements survive a rollback.
"""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import suppress
from importlib import resources
from typing import TYPE_CHECKING

import asyncpg

if TYPE_CHECKING:
    from asyncpg.transaction import Transaction

    from billhook.postgres import Connection

_TIMEOUT = 10.0
"""Seconds. A connection whose reset takes longer is closed."""

# As a block rather than a call: a trigger may have left a role that may not call the function, and
# `doctor` checks databases that don't have it.
_, _BODY, _ = (
    resources.files("billhook.postgres").joinpath("functions/sessions.sql").read_text().split("$$")
)
# First the time limit that a trigger may have set: the next statement may take longer.
_RESET = f"RESET statement_timeout; DO $$ {_BODY} $$"
_ROLL_BACK_AND_RESET = f"ROLLBACK; {_RESET}"


async def reset(connection: Connection) -> None:
    """Reset the session of a connection, outside a transaction or as its last step.

    Raises:
        asyncpg.PostgresError: a deferred trigger of the app, most likely.
    """
    await connection.execute(_RESET, timeout=_TIMEOUT)


async def reset_or_close(connection: Connection) -> None:
    """Reset the session of a connection, outside a transaction. If that fails, close it."""
    await _or_close(connection, reset(connection))


async def roll_back(connection: Connection, transaction: Transaction) -> None:
    """Roll back and reset the session. If that fails, close the connection."""

    async def work() -> None:
        # asyncpg must end the transaction that it began.
        await connection.execute(f"{_ROLL_BACK_AND_RESET}; BEGIN", timeout=_TIMEOUT)
        await transaction.rollback()

    await _or_close(connection, work())


async def _or_close(connection: Connection, work: Coroutine[None, None, None]) -> None:
    try:
        await work
    except Exception:
        close(connection)
    except BaseException:
        close(connection)
        raise


def close(connection: Connection) -> None:
    """Close a connection immediately, unless it is closed already. Its pool opens another."""
    with suppress(asyncpg.InterfaceError):
        connection.terminate()
