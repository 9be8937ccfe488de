"""Mirrored objects: the newest state wins, and a deletion stays (docs/explanation/ordering.md).

Stripe's `created` has a resolution of one second. Within a second, the kind of change decides
(created before updated before deleted), then the events' own `previous_attributes`. If neither
decides, the object is queued for a refresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from billhook.kinds import Kind, Row
from billhook.reducers.missing import Missing, ObjectKey

Rank = int
"""Order within one second: created < updated or fetched < deleted. For kinds whose states only move
forward, how far along the state is counts first."""


@dataclass(frozen=True, slots=True)
class Version:
    """Which state of an object this is.

    Attributes:
        at: epoch seconds.
        event_id: None for a state that was fetched from Stripe.
        previous: the event's `previous_attributes`.
    """

    at: int
    rank: Rank
    event_id: str | None
    previous: Mapping[str, Any] | None = None

    @property
    def order(self) -> tuple[int, int]:
        return self.at, self.rank


@dataclass(frozen=True, slots=True)
class Tie:
    """The decision between two states of one second and kind.

    Attributes:
        wins: the new one is shown.
        undecided: only a fixed rule decided; the object must be fetched from Stripe.
    """

    wins: bool
    undecided: bool


def break_tie(
    shown: Version, shown_state: Mapping[str, Any], new: Version, new_state: Mapping[str, Any]
) -> Tie:
    """Decide between two states with equal `order`.

    `previous_attributes` show which came later. If they don't, a fetched state takes precedence
    over an event's, and of two events, the one with the greater id: the same in any order.
    """
    new_is_later = new.previous is not None and was_before(shown_state, new.previous)
    shown_is_later = shown.previous is not None and was_before(new_state, shown.previous)
    if new_is_later != shown_is_later:
        return Tie(wins=new_is_later, undecided=False)
    if new.event_id is None:
        wins = True
    else:
        wins = shown.event_id is not None and new.event_id > shown.event_id
    return Tie(wins=wins, undecided=shown_state != new_state)


def was_before(state: Mapping[str, Any], previous: Mapping[str, Any]) -> bool:
    """Whether `state` is the one that `previous` (an event's previous_attributes) describes.

    Stripe compares hashes key by key, and null stands for a key that did not exist
    (stripe-facts 24).
    """
    for name, was in previous.items():
        now = state.get(name)
        if isinstance(was, dict) and isinstance(now, dict):
            if not was_before(now, was):
                return False
        elif now != was:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Document:
    """A Stripe object as received: an event's `data.object`, or a fetched one.

    Attributes:
        number: its place in the batch, counted from 1.
    """

    number: int
    object: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """The state that a row shows.

    Attributes:
        version: None for a row that no event and no fetch has written, such as an adopted one.
        state: the whole object, if known; it is loaded only to break a tie.
    """

    version: Version | None
    state: Mapping[str, Any] | None = None


@dataclass(slots=True)
class Mirrored:
    """One mirrored object: what its row shows, and what to save.

    Attributes:
        key: its kind's name and its id.
        shown: None if there is no row.
        deleted: its row is marked deleted (kinds that keep deleted objects).
        deleted_at: when Stripe deleted it, according to a tombstone.
        children: the ids of the rows that belong to it.
        tied: the event whose state won when two states of one second met; empty: a fetched state.
        row, document: the new state, if it must be saved.
        new_children: the children of the new state.
        gone_children: the ids of children that no longer exist.
        removed: its row must be deleted.
        newly_deleted: the deletion must be saved.
        newly_tied: `tied` must be saved.
    """

    kind: Kind
    key: ObjectKey
    shown: Shown | None = None
    deleted: bool = False
    deleted_at: int | None = None
    children: frozenset[str] = frozenset()
    tied: str | None = None
    row: Row | None = None
    document: Document | None = None
    new_children: dict[str, Row] = field(default_factory=dict)
    gone_children: set[str] = field(default_factory=set)
    removed: bool = False
    newly_deleted: bool = False
    newly_tied: bool = False

    @property
    def changed(self) -> bool:
        return self.row is not None or self.newly_deleted or self.newly_tied


def show(mirrored: Mirrored, row: Row, version: Version, document: Document) -> set[str]:
    """Show a state of an object, unless a newer one is shown.

    Returns:
        Why the object must be fetched from Stripe.

    Raises:
        Missing: it ties with the shown state, which was not loaded.
    """
    is_gone = mirrored.deleted_at is not None and mirrored.deleted_at >= version.at
    if is_gone and not mirrored.kind.keeps_deleted:
        return set()
    reasons = set()
    shown = mirrored.shown
    if shown is not None and shown.version is not None:
        if version.order < shown.version.order:
            return set()
        if version.order == shown.version.order:
            wins, undecided = _breaks_tie(mirrored, shown, version, document)
            if undecided:
                reasons.add("several changes in one second")
            if not wins:
                return reasons
    mirrored.row = row
    mirrored.document = document
    mirrored.shown = Shown(version, document.object)
    mirrored.removed = False
    if _replace_children(mirrored, document):
        reasons.add("more than one page of items")
    return reasons


def _breaks_tie(
    mirrored: Mirrored, shown: Shown, version: Version, document: Document
) -> tuple[bool, bool]:
    assert shown.version is not None
    if version.event_id is not None and version.event_id == shown.version.event_id:
        return False, False
    if shown.state is None:
        raise Missing(ties=[mirrored.key])
    tie = break_tie(shown.version, shown.state, version, document.object)
    # A third state of one second may return to the first: then `previous_attributes` mislead.
    third = mirrored.tied == (shown.version.event_id or "")
    winner = version if tie.wins else shown.version
    mirrored.tied = winner.event_id or ""
    mirrored.newly_tied = True
    undecided = tie.undecided or (third and shown.state != document.object)
    return tie.wins, undecided


def _replace_children(mirrored: Mirrored, document: Document) -> bool:
    """Use the children of the new state. Returns whether some of them are missing in it."""
    if mirrored.kind.children is None:
        return False
    complete = mirrored.kind.children.complete(document.object)
    mirrored.new_children = mirrored.kind.children.rows(document.object)
    now = frozenset(mirrored.new_children)
    if complete:
        mirrored.gone_children = (mirrored.gone_children | mirrored.children) - now
        mirrored.children = now
    else:
        mirrored.gone_children -= now
        mirrored.children |= now
    return not complete


def delete(mirrored: Mirrored, at: int) -> None:
    """Stripe deleted an object. A row with a newer state was created again and stays."""
    mirrored.newly_deleted = True
    mirrored.deleted_at = max(at, mirrored.deleted_at or at)
    if mirrored.kind.keeps_deleted:
        mirrored.deleted = True
        return
    shown = mirrored.shown
    if shown is None or (shown.version is not None and shown.version.at > at):
        return
    mirrored.removed = True
    mirrored.shown = mirrored.row = mirrored.document = None
    mirrored.gone_children |= mirrored.children
    mirrored.children = frozenset()
    mirrored.new_children = {}
