"""What a batch touches: as it was loaded, and as the reducers change it. No I/O, no clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from billhook.kinds import KINDS
from billhook.projections.changes import CheckoutSessionChange
from billhook.reducers.claims import Claims
from billhook.reducers.mirror import Document, Mirrored
from billhook.reducers.missing import Missing, ObjectKey, Subject
from billhook.reducers.payments import Payments


@dataclass(slots=True)
class Session:
    """One of our rows of `payments.stripe_checkout_sessions`.

    Attributes:
        version: the time and rank of the event that it shows; None before the first.
    """

    row_id: str
    version: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """A change of one of our sessions that is to be saved.

    Attributes:
        newer: it is newer than what the row shows. An older one only fills what is missing.
    """

    row_id: str
    change: CheckoutSessionChange
    version: tuple[int, int]
    event_id: str | None
    newer: bool
    document: Document


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A mirrored row that names no subject itself, of a customer whose subject may have changed."""

    customer: str
    at: int
    subject: Subject | None


@dataclass(slots=True)
class State:
    """Keyed by Stripe's ids, of one environment.

    Attributes:
        refreshes: objects to be fetched from Stripe: why, and in how many seconds.
        unnamed_of: the customers whose rows in `unnamed` are loaded.
    """

    objects: dict[ObjectKey, Mirrored] = field(default_factory=dict)
    claims: Claims = field(default_factory=Claims)
    payments: Payments = field(default_factory=Payments)
    sessions: dict[str, Session] = field(default_factory=dict)
    moved_sessions: list[SessionMoved] = field(default_factory=list)
    refreshes: dict[ObjectKey, tuple[str, int]] = field(default_factory=dict)
    unnamed: dict[ObjectKey, Unnamed] = field(default_factory=dict)
    unnamed_of: set[str] = field(default_factory=set)

    def mirrored(self, key: ObjectKey) -> Mirrored:
        """A mirrored object; one that has no row yet is made."""
        if (found := self.objects.get(key)) is None:
            found = self.objects[key] = Mirrored(KINDS[key[0]], key)
        return found

    def require_unnamed(self) -> None:
        """Make sure that all rows whose subject may have moved are loaded.

        Raises:
            Missing: they are not.
        """
        if not self.claims.moved <= self.unnamed_of:
            raise Missing(unnamed=self.claims.moved)
