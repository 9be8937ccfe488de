"""The rows that a batch touches, as loaded and then changed by the reducers. No I/O, no clock."""

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
    """A row of `payments.stripe_checkout_sessions`.

    Attributes:
        version: the time and rank of the event whose state it shows; None before the first.
    """

    row_id: str
    version: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class SessionMoved:
    """A change of a session to be saved.

    Attributes:
        newer: it is newer than the row's state. An older one only fills gaps.
    """

    row_id: str
    change: CheckoutSessionChange
    version: tuple[int, int]
    event_id: str | None
    newer: bool
    document: Document


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A mirrored row without a subject of its own, of a customer whose subject may have changed."""

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
        """A mirrored object; it is created if there is no row yet."""
        if (found := self.objects.get(key)) is None:
            found = self.objects[key] = Mirrored(KINDS[key[0]], key)
        return found

    def require_unnamed(self) -> None:
        """Make sure that all rows whose subject may have changed are loaded.

        Raises:
            Missing: they are not.
        """
        if not self.claims.moved <= self.unnamed_of:
            raise Missing(unnamed=self.claims.moved)
