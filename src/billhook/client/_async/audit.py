"""The audit log: who changed what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from uuid import UUID

from billhook.client._async.lists import LARGEST, follow
from billhook.client._async.transport import AsyncTransport
from billhook.client.inputs import query
from billhook.client.request import Call, Page, path
from billhook.models import AuditEntries, AuditEntry
from billhook.models.audit import AuditOutcome
from billhook.settings import Environment


class AsyncAuditLog:
    """Changes through the API, the dashboard and the command line, newest first."""

    def __init__(self, transport: AsyncTransport) -> None:
        self._transport = transport

    async def page(
        self,
        *,
        limit: int = 50,
        starting_after: str | None = None,
        environment: Environment | None = None,
        action: str | None = None,
        target: str | None = None,
        key_id: UUID | None = None,
        outcome: AuditOutcome | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Page[AuditEntry]:
        """One page.

        Args:
            limit: 1 to 100.
            starting_after: the `next_cursor` of the page before.
            environment: only changes that concern this environment alone.
            action: such as `refund.create`.
            target: the id of what was changed or created.
            key_id: only changes made with this admin key.
            since: not before this time.
            until: before this time.
        """
        asked = query(
            limit=limit,
            startingAfter=starting_after,
            environment=environment,
            action=action,
            target=target,
            keyId=None if key_id is None else str(key_id),
            outcome=outcome,
            since=since,
            until=until,
        )
        answer = await self._transport.send(
            Call("GET", path("audit-log"), AuditEntries, query=asked, repeatable=True)
        )
        return Page(answer.model.entries, answer.next_cursor)

    def all(
        self,
        *,
        environment: Environment | None = None,
        action: str | None = None,
        target: str | None = None,
        key_id: UUID | None = None,
        outcome: AuditOutcome | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AsyncIterator[AuditEntry]:
        """All of them, page by page as they are used."""
        return follow(
            lambda cursor: self.page(
                limit=LARGEST,
                starting_after=cursor,
                environment=environment,
                action=action,
                target=target,
                key_id=key_id,
                outcome=outcome,
                since=since,
                until=until,
            )
        )
