"""The audit log: who changed what through the API, the dashboard or the command line.

An entry is written before a change begins, so that nothing changes without one, and gets its result
when the change has ended. PostgreSQL refuses every other change of an entry
(`functions/guards.sql`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import asyncpg
import structlog

from billhook.access.permissions import Grant, Need, Row
from billhook.errors import BillhookError
from billhook.postgres import Connection, Database
from billhook.redact import redact
from billhook.settings import Environment
from billhook.storable import UNSTORABLE

Via = Literal["api", "dashboard", "cli"]

_BEGIN = """
INSERT INTO billhook.audit_log
    (environment, action, target, actor, key_id, via, address, request, before)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) RETURNING id
"""
_END = """
UPDATE billhook.audit_log SET ended_at = now(), outcome = $2, error = $3, request = $4,
    target = coalesce(target, $5), after = $6
WHERE id = $1
"""
_LONGEST = 500
"""Characters of a text in a request; longer ones are cut."""
_LEVELS = 20
_LARGEST = 2**63
_HIDDEN = (
    *("secret", "password", "token", "credential", "email", "confirmurl", "claims"),
    "comment",  # a customer's own words
)
"""Parts of the names of fields that are hidden. Entries can't be changed, so they must not contain
secrets, nor personal data that may have to be erased."""
_EMAILS = re.compile(r"[^\s@<>\"'`(),;:]{1,64}@[^\s@<>\"'`(),;:]{1,255}")

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Change:
    """A change that has begun.

    Attributes:
        parameters: those of the path that name what is changed.
        request: what was asked for: JSON of the body, or the fields of a form.
        result: the response, as JSON. It says what was created, and what a change without a row
            led to.
        error: why it failed, if no exception says so.
    """

    id: int
    environment: Environment | None
    need: Need
    target: str | None
    parameters: Mapping[str, object]
    request: object = None
    result: object = None
    error: Exception | None = None


class AuditLog:
    """Writes entries."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @asynccontextmanager
    async def recorded(
        self,
        need: Need,
        grant: Grant,
        environment: Environment | None,
        *,
        via: Via,
        address: str | None,
        parameters: Mapping[str, object],
    ) -> AsyncIterator[Change]:
        """An entry for what happens inside. Arguments, and raises, as `begin`."""
        change = await self.begin(
            need, grant, environment, via=via, address=address, parameters=parameters
        )
        try:
            yield change
        except Exception as error:
            change.error = error
            await self.end(change)
            raise
        await self.end(change)  # not if it was cancelled: then nobody knows

    async def begin(
        self,
        need: Need,
        grant: Grant,
        environment: Environment | None,
        *,
        via: Via,
        address: str | None,
        parameters: Mapping[str, object],
    ) -> Change:
        """Write the entry of a change that is about to begin.

        Args:
            address: of the client.
            parameters: those of the path.

        Raises:
            DatabaseUnavailable: then nothing may change.
        """
        target = _text(str(parameters[need.target])) if need.target else None
        others = {
            name: each
            for name, each in parameters.items()
            if name not in ("environment", need.target) and each is not None
        }
        async with self._database.connection() as connection:
            entry = await connection.fetchval(
                _BEGIN,
                environment,
                need.action,
                target,
                grant.name,
                grant.key_id,
                via,
                address,
                _clean(others) if others else None,
                await _row(connection, need.row, environment, target),
            )
        return Change(entry, environment, need, target, others)

    async def end(self, change: Change) -> None:
        """Add the result. If PostgreSQL is away, the entry stays without one, and the change
        stands."""
        error, reason = change.error, None
        if isinstance(error, BillhookError):
            reason = _text(f"{error.code}: {error.message}")
        elif error is not None:
            reason = "INTERNAL_ERROR: An unexpected error occurred."
        try:
            async with self._database.connection() as connection:
                after: Any = await _row(
                    connection, change.need.row, change.environment, change.target
                )
                if change.need.row is None and error is None:
                    after = _clean(change.result)
                await connection.execute(
                    _END,
                    change.id,
                    "done" if error is None else "failed",
                    reason,
                    _clean(_asked(change)),
                    _found(change.result, change.need.made),
                    after,
                )
        except (BillhookError, asyncpg.PostgresError) as failure:
            _log.warning(
                "the result of a change is missing in the audit log",
                entry=change.id,
                reason=redact(str(failure)),
            )


async def _row(
    connection: Connection, row: Row | None, environment: Environment | None, key: str | None
) -> Any:
    if row is None:
        return None
    found = await connection.fetchval(
        f"SELECT pg_catalog.to_jsonb(t) - 'raw'::text FROM payments.{row.table} AS t"  # noqa: S608
        f" WHERE t.environment = $1 AND t.{row.key} = $2",
        environment,
        key,
    )
    return _clean(found)


def _asked(change: Change) -> object:
    """What was asked for, with what the path names."""
    if isinstance(change.request, Mapping):
        return {**change.parameters, **change.request}
    return change.request if change.request is not None else (change.parameters or None)


def _clean(value: object, levels: int = _LEVELS) -> Any:
    """`value` as JSON that PostgreSQL can store, without secrets, email addresses and long texts.
    The request may be anything, also what the route then refuses."""
    if isinstance(value, Mapping):
        return {
            _text(str(name)): "****" if _is_hidden(str(name), each) else _clean(each, levels - 1)
            for name, each in value.items()
            if levels > 0
        }
    if isinstance(value, list | tuple):
        return [_clean(each, levels - 1) for each in value if levels > 0]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    if isinstance(value, int) and abs(value) < _LARGEST:
        return value
    return _text(str(value))


def _is_hidden(name: str, value: object) -> bool:
    return value is not None and any(part in name.lower() for part in _HIDDEN)


def _text(text: str) -> str:
    """`text` without secrets and email addresses, cut, with a mark for what PostgreSQL cannot
    store."""
    shown = UNSTORABLE.sub("\N{REPLACEMENT CHARACTER}", _EMAILS.sub("****", redact(text)))
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]} …"


def _found(result: object, names: tuple[str, ...]) -> str | None:
    """The value at these names in a JSON object."""
    for name in names:
        result = result.get(name) if isinstance(result, Mapping) else None
    return str(result) if names and result is not None else None
