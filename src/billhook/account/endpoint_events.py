"""The event types that Stripe sends to Billhook: those that it uses, and those that the app added.

Events of added types are recorded in `payments.webhook_events` like all others, so the app's
triggers see them. Billhook itself changes nothing for them: their status is `ignored`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from functools import cache

from billhook.errors import InvalidInput
from billhook.postgres import Database
from billhook.projections import TYPES
from billhook.settings import Environment

# invoice.paid reports the same at the same time (contract section 5).
_NOT_ASKED_FOR = frozenset({"invoice.payment_succeeded"})
# Nothing in the mirror changes, but apps want to tell their customers.
_NOTICES = frozenset({"customer.source.expiring", "invoice.upcoming"})

EVENTS: tuple[str, ...] = tuple(sorted((TYPES - _NOT_ASKED_FOR) | _NOTICES))
"""The event types that are always received: all that Billhook applies, and the notices that most
apps want (a card that expires, an upcoming invoice)."""

_ADDED = """
SELECT event_type, added_at FROM billhook.endpoint_events
WHERE environment = $1 ORDER BY event_type
"""
_ADD = """
INSERT INTO billhook.endpoint_events (environment, event_type)
SELECT $1, * FROM pg_catalog.unnest($2::text[]) ON CONFLICT DO NOTHING
"""
_REMOVE = """
DELETE FROM billhook.endpoint_events WHERE environment = $1 AND event_type = ANY ($2::text[])
"""


@dataclass(frozen=True, slots=True)
class Received:
    """The event types of an environment.

    Attributes:
        added: those that the app added, and when (UTC).
    """

    added: dict[str, datetime]

    @property
    def all(self) -> list[str]:
        """All types, sorted."""
        return sorted({*EVENTS, *self.added})

    def since(self, event_type: str, otherwise: datetime) -> datetime:
        """From when on events of a type are expected: when it was added, if that is later."""
        return max(self.added.get(event_type, otherwise), otherwise)

    def __contains__(self, event_type: object) -> bool:
        return event_type in _ALWAYS or event_type in self.added


_ALWAYS = frozenset(EVENTS)


async def received(database: Database, environment: Environment) -> Received:
    """The event types that Billhook receives."""
    async with database.connection() as connection:
        rows = await connection.fetch(_ADDED, environment)
    return Received({row["event_type"]: row["added_at"] for row in rows})


def check(types: Sequence[str]) -> None:
    """Check types that an app wants to add.

    Raises:
        InvalidInput: Stripe has no such event type.
    """
    for each in types:
        if each not in known_types():
            near = get_close_matches(each, known_types(), n=1)
            raise InvalidInput(
                f"types: Stripe has no event type {each}",
                next_actions=f"Did you mean {near[0]}?"
                if near
                else "Stripe lists its event types at https://docs.stripe.com/api/events/types.",
            )


async def add(database: Database, environment: Environment, types: Sequence[str]) -> None:
    """Receive these types, too."""
    async with database.connection() as connection:
        await connection.execute(_ADD, environment, [each for each in types if each not in _ALWAYS])


async def remove(database: Database, environment: Environment, types: Sequence[str]) -> None:
    """Stop receiving these types. Those that were never added are skipped.

    Raises:
        InvalidInput: Billhook needs one of them.
    """
    for each in types:
        if each in _ALWAYS:
            raise InvalidInput(
                f"types: {each} is always received",
                next_actions="Only event types that were added can be removed: "
                "billhook webhooks events list",
            )
    async with database.connection() as connection:
        await connection.execute(_REMOVE, environment, list(types))


@cache
def known_types() -> frozenset[str]:
    """The event types of the API version in use: the choices that Stripe's library declares."""
    from stripe.params import WebhookEndpointCreateParams

    choices = str(WebhookEndpointCreateParams.__annotations__["enabled_events"])
    return frozenset(re.findall(r"[\"']([a-z0-9_]+(?:\.[a-z0-9_]+)+)[\"']", choices))
