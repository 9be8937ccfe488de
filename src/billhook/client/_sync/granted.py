# Generated from _async/granted.py by `python src/billhook/client/generate.py`; don't edit.
"""Who has access."""

from __future__ import annotations

from billhook.client._sync.transport import SyncTransport
from billhook.client.inputs import given, query
from billhook.client.request import Call, path
from billhook.models import Access, AccessSettings
from billhook.settings import Environment


class SyncAccess:
    """Whether a subject has access, and the settings that decide about it."""

    def __init__(self, transport: SyncTransport) -> None:
        self._transport = transport

    def settings(self) -> AccessSettings:
        """Whose subscriptions give access, and for how long after a failed payment."""
        call = Call("GET", path("access"), AccessSettings, repeatable=True)
        return (self._transport.send(call)).model

    def update_settings(
        self, *, environment: Environment | None = None, grace_seconds: int | None = None
    ) -> AccessSettings:
        """Change what is given. The environment then stays, whatever is connected later."""
        body = given(environment=environment, graceSeconds=grace_seconds)
        call = Call("PATCH", path("access"), AccessSettings, body=body, repeatable=True)
        return (self._transport.send(call)).model

    def check(
        self,
        subject_type: str,
        subject_id: str,
        what: str,
        *,
        environment: Environment | None = None,
        grace_seconds: int | None = None,
    ) -> Access:
        """Whether a subject has access: the answer that a policy gets.

        Args:
            what: the id of a product or price, the lookup key of a price, product or feature.
            environment, grace_seconds: instead of those of the settings.
        """
        asked = query(
            subjectType=subject_type,
            subjectId=subject_id,
            what=what,
            environment=environment,
            graceSeconds=grace_seconds,
        )
        call = Call("GET", path("access", "check"), Access, query=asked, repeatable=True)
        return (self._transport.send(call)).model
