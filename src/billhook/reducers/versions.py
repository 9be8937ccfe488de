"""Which of two states of one object is shown: the newest wins (docs/explanation/ordering.md).

Stripe's `created` has a resolution of one second. Within a second, the kind of change decides
(created before updated before deleted), then the events' own `previous_attributes`. If neither
decides, the object is queued for a refresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Rank = int
"""Within one second: created, updated (and fetched), deleted; and before that, where states of a
kind follow each other in one direction only, how far along they are."""


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
