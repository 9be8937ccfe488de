"""The audit log's entries of commands that change the database themselves."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

# Imported when a command runs, to keep shell completion fast.
if TYPE_CHECKING:
    from billhook.access.audit import Change
    from billhook.postgres import Database


@asynccontextmanager
async def recorded(
    database: Database, action: str, target: UUID | None = None
) -> AsyncIterator[Change]:
    """An entry for what happens inside, with the name of the person who runs the command.

    Args:
        action: such as `key.revoke`.
        target: what is changed; without it, the result says what is created.
    """
    from billhook.access.audit import AuditLog
    from billhook.access.permissions import Grant, Need

    need = Need("admin", action, target="target" if target else None, made=("id",))
    person = Grant(f"{_user()}@{socket.gethostname()}")
    async with AuditLog(database).recorded(
        need, person, None, via="cli", address=None, parameters={"target": target}
    ) as change:
        yield change


def _user() -> str:
    """The name of the system's user; in a container, it may only have a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
