"""Applies one event's changes to the state of a batch: one place for all callers."""

from __future__ import annotations

from collections.abc import Iterator

from billhook.projections.changes import (
    Changes,
    CheckoutSessionChange,
    ClaimChange,
    Event,
    MirroredObject,
    PaymentChange,
)
from billhook.reducers import mirror
from billhook.reducers.claims import Claim
from billhook.reducers.mirror import Document
from billhook.reducers.missing import ObjectKey
from billhook.reducers.state import SessionMoved, State
from billhook.reducers.transactions import lacks_refunds
from billhook.reducers.versions import Version

_LONGEST_CLAIM = 2500
"""Bytes that an index entry can hold. Billhook's checkouts make no longer claims; rows whose
metadata names a longer subject show it in full, and their customer's other rows don't get it."""


def apply(state: State, event: Event, changes: Changes, number: int) -> bool:
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
        mirror.delete(state.mirrored(gone), event.created)
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
    for reason in mirror.show(state.mirrored(key), shown.row, version, document):
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
