"""The audit log (beyond the contract)."""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from billhook.models.queries import ListQuery, Moment
from billhook.models.wire import Id, Timestamp, WireModel
from billhook.settings import Environment

AuditOutcome = Literal["done", "failed"]


class AuditEntry(WireModel):
    """Who changed what.

    Attributes:
        environment: null if the change concerned both environments, or none.
        action: such as `refund.create`.
        target: the id of what was changed or created.
        actor: the name of the key, or of the person who signed in with a token.
        via: `api`, `dashboard` or `cli`.
        address: of the client.
        outcome: null while the change is running, or if the server stopped before it was done.
        request: the content of the request, without secrets.
        before: the row before the change.
        after: the row after the change. If no row was changed, the response.
    """

    id: int
    at: Timestamp
    environment: Environment | None
    action: str
    target: str | None
    actor: str
    key_id: UUID | None
    via: Literal["api", "dashboard", "cli"]
    address: str | None
    outcome: AuditOutcome | None
    ended_at: Timestamp | None
    error: str | None
    request: Any
    before: Any
    after: Any


class AuditEntries(WireModel):
    """The 200 response of `GET …/audit-log`."""

    entries: list[AuditEntry]


class AuditQuery(ListQuery):
    """Query of `GET …/audit-log`. `since` ≤ time < `until`."""

    environment: Environment | None = None
    action: Id | None = None
    target: Id | None = None
    key_id: UUID | None = None
    outcome: AuditOutcome | None = None
    since: Moment | None = None
    until: Moment | None = None
