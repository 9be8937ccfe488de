"""The events of a batch, one after the other, applied to the rows that it loaded; then what depends
on several objects. One place for all callers. No I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from billhook.reducers.missing import Account, Missing, ObjectKey, Subject
from billhook.reducers.newest_wins import Document, Mirrored, Version
from billhook.reducers.payments import Dispute, Payment, Payments, Row, Transaction
from billhook.reducers.recurring import Movement, Recurring
from billhook.reducers.transactions import (
    lacks_refunds,
    refund_transactions,
    transaction_of,
)


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
    recurring: Recurring = field(default_factory=Recurring)
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


_LONGEST_CLAIM = 2500
"""Bytes that an index entry can hold. Billhook's checkouts make no longer claims; rows whose
metadata names a longer subject show it in full, and their customer's other rows don't get it."""


def reduce_events(state: State, events: Iterable[tuple[Event, Changes]]) -> list[bool]:
    """Apply what a batch of events changes, in order.

    Returns:
        For each, whether anything applied (see `reduce_event`).

    Raises:
        Missing: all that can be found missing at once, so that one more load is usually enough.
            The state must not be used any more.
    """
    applied = []
    missing = []
    for number, (event, changes) in enumerate(events, start=1):
        try:
            applied.append(reduce_event(state, event, changes, number))
        except Missing as each:
            missing.append(each)
    if missing:
        raise Missing.together([*missing, Missing(unnamed=state.claims.moved)])
    return applied


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
        _show(state, event, changes, changes.mirror, document)
    elif changes.recurring is not None:  # as a rebuild repeats it
        list(state.recurring.record(changes.recurring, event.rank, event.id))
    if (gone := changes.deleted) is not None:
        ours = True
        newest_wins.delete(state.mirrored(gone), event.created)
        if (payment := state.payments.by_ref.get(gone)) is not None:
            payment.changed = True
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


def _show(
    state: State, event: Event, changes: Changes, shown: MirroredObject, document: Document
) -> None:
    key = (shown.kind.name, shown.object_id)
    row = shown.row
    if (worth := changes.recurring) is not None:
        for reason in state.recurring.record(worth, event.rank, event.id):
            state.refreshes[key] = (reason, 0)
        row = row | state.recurring.columns(worth)
    rank = 3 * shown.kind.progress(event.object) + event.rank
    version = Version(event.created, rank, event.id or None, event.previous)
    for reason in newest_wins.show(state.mirrored(key), row, version, document):
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


@dataclass(frozen=True, slots=True)
class Result:
    """What follows from all events of a batch together.

    Attributes:
        subjects: of mirrored rows whose subject is saved: their own one, else their customer's.
        lost: customers that lose their mapping.
        mappings: new mappings, by customer.
        transactions: rows of payments and refunds that may have changed.
        movements: of MRR, by customer and currency, and by day.
        gone_movements: the rows of those that are gone.
    """

    subjects: dict[ObjectKey, Subject | None]
    lost: list[str]
    mappings: dict[str, Subject]
    transactions: list[tuple[Payment, Row, Transaction]]
    movements: dict[Account, dict[int, Movement]]
    gone_movements: list[str]


def finish(state: State) -> Result:
    """Decide what depends on several objects, after all events of the batch.

    Raises:
        Missing: something that it depends on was not loaded.
    """
    if not state.claims.moved <= state.unnamed_of:
        raise Missing(unnamed=state.claims.moved)
    subjects = dict(_subjects(state))
    lost, mappings = state.claims.settle()
    moved, gone = state.recurring.settle()
    return Result(subjects, lost, mappings, list(_transactions(state)), moved, gone)


def _subjects(state: State) -> Iterator[tuple[ObjectKey, Subject | None]]:
    for key, mirrored in state.objects.items():
        if mirrored.row is not None and mirrored.kind.subject is not None:
            yield key, _subject_of(state, mirrored)
    for key, unnamed in state.unnamed.items():
        saved = key in state.objects and (
            state.objects[key].row is not None or state.objects[key].removed
        )
        if not saved and unnamed.customer in state.claims.moved:
            now = state.claims.subject_at(unnamed.customer, unnamed.at)
            if now != unnamed.subject:
                yield key, now


def _subject_of(state: State, mirrored: Mirrored) -> Subject | None:
    """The subject in the object, else the one that its customer paid for at that time."""
    kind = mirrored.kind
    assert mirrored.row is not None
    assert mirrored.document is not None
    assert mirrored.shown is not None
    assert mirrored.shown.version is not None
    assert kind.subject is not None
    if (named := kind.subject(mirrored.document.object)) is not None:
        return named.type, named.id
    customer = mirrored.row[kind.customer] if kind.customer else None
    if not isinstance(customer, str):
        return None
    return state.claims.subject_at(customer, mirrored.shown.version.at)


def _show_disputes(state: State, payment: Payment) -> None:
    """Let a payment show its disputes as their rows are saved."""
    for key in payment.refs:
        mirrored = state.objects.get(key)
        if mirrored is None or key[0] != "dispute":
            continue
        if mirrored.removed:
            payment.disputes.pop(key[1], None)
        elif mirrored.row is not None:
            payment.disputes[key[1]] = Dispute.of(mirrored.row)


def _transactions(state: State) -> Iterator[tuple[Payment, Row, Transaction]]:
    moved = state.claims.moved
    for payment in state.payments.by_id.values():
        sources = payment.sources.values()
        if not payment.changed and not any(s.facts.customer_id in moved for s in sources):
            continue
        _show_disputes(state, payment)
        transaction = transaction_of(payment, state.claims)
        if transaction is not None:
            yield payment, payment.row or Row.new(), transaction
        for refund_id, refund in refund_transactions(payment, transaction):
            yield payment, payment.refund_rows.get(refund_id) or Row.new(), refund
