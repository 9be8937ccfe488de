"""One event's changes applied to the rows that a batch loaded: one place for all callers. No I/O,
no clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from billhook.kinds import KINDS
from billhook.projections.changes import (
    Changes,
    CheckoutSessionChange,
    ClaimChange,
    Event,
    MirroredObject,
    PaymentChange,
)
from billhook.reducers import newest_wins
from billhook.reducers.claims import Claim, Claims
from billhook.reducers.missing import Missing, ObjectKey, Subject
from billhook.reducers.newest_wins import Document, Mirrored, Version
from billhook.reducers.payments import Payments
from billhook.reducers.transactions import lacks_refunds


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


_LONGEST_CLAIM = 2500
"""Bytes that an index entry can hold. Billhook's checkouts make no longer claims; rows whose
metadata names a longer subject show it in full, and their customer's other rows don't get it."""


def reduce_event(state: State, event: Event, changes: Changes, number: int) -> bool:
    """Apply what an event changes.

    Args:
        number: the event's place in the batch, counted from 1.

    Returns:
        Whether anything applied: then the event is `processed`, else `ignored`.

    Raises:
        Missing: something that it touches was not loaded. The state must not be used any more.
    """
    document = Document(number, event.object)
    ours = False
    if changes.checkout_session is not None:
        ours = _move_session(state, event, changes.checkout_session, document)
    if changes.claim is not None:
        ours = True
        claim = _claim(changes.claim, event.created)
        if claim.size <= _LONGEST_CLAIM:
            state.claims.record(claim)
    if changes.mirror is not None:
        ours = True
        _show(state, event, changes.mirror, document)
    if (gone := changes.deleted) is not None:
        ours = True
        newest_wins.delete(state.mirrored(gone), event.created)
        if gone[0] == "customer":
            state.claims.delete_customer(gone[1])
    if changes.payment is not None:
        ours = True
        for key, reason in _record_payment(state, event, changes.payment, number):
            state.refreshes.setdefault(key, (reason, 60))
    return ours


def _record_payment(
    state: State, event: Event, change: PaymentChange, number: int
) -> Iterator[tuple[ObjectKey, str]]:
    """What is missing usually comes with the next event, else it is fetched."""
    yield from state.payments.record(event, change, number)
    if (refund := change.refund) is not None and refund.object_type == "charge":
        key = (refund.object_type, refund.object_id)
        if lacks_refunds(state.payments.by_ref[key], refund.object_id):
            yield key, "its refunds are not known"


def _show(state: State, event: Event, shown: MirroredObject, document: Document) -> None:
    key = (shown.kind.name, shown.object_id)
    rank = 3 * shown.kind.progress(event.object) + event.rank
    version = Version(event.created, rank, event.id or None, event.previous)
    for reason in newest_wins.show(state.mirrored(key), shown.row, version, document):
        state.refreshes[key] = (reason, 0)


def _claim(change: ClaimChange, at: int) -> Claim:
    subject = (change.subject_type, change.subject_id)
    return Claim(at, change.ref, change.customer_id, subject, change.kind)


def _move_session(
    state: State, event: Event, change: CheckoutSessionChange, document: Document
) -> bool:
    session = state.sessions.get(change.session_id)
    if session is None:
        return False  # not created by Billhook
    version = (event.created, change.rank)
    newer = session.version is None or session.version < version
    if newer:
        session.version = version
    state.moved_sessions.append(
        SessionMoved(session.row_id, change, version, event.id or None, newer, document)
    )
    return True


def subject_of_row(
    state: State, named: tuple[str, str] | None, customer: str | None, at: int
) -> tuple[str | None, str | None]:
    """A row's subject: the one in its object, else the one that its customer paid for then."""
    if named is not None:
        return named
    if customer is not None and (found := state.claims.subject_at(customer, at)) is not None:
        return found
    return None, None
