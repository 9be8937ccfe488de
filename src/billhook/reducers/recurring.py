"""MRR over time: the states of each subscription, and what they change for its customer
(docs/decisions/0022-mrr-history.md).

Each state says: from this second on, the subscription is worth so much. All of them are kept, so
that the order in which they arrive does not matter. The movements of a customer, one a day and
currency, follow from them. Days are UTC.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import groupby
from typing import NamedTuple
from uuid import uuid4

from billhook.kinds import Row
from billhook.kinds.recurring import Terms, discounted
from billhook.models.business import MovementKind
from billhook.projections.changes import SubscriptionState, Value
from billhook.reducers.missing import Account, Missing

_DAY = 86400
_EPOCH = date(1970, 1, 1).toordinal()


class StateKey(NamedTuple):
    """One state of a subscription; no event id: it was fetched."""

    at: int
    rank: int
    event_id: str


@dataclass(slots=True)
class Movement:
    """How the MRR of a customer changed within a day.

    Attributes:
        row_id: its row.
        before, after: the customer's MRR when the day began and when it ended.
        returning: there was an earlier movement.
        latest: there is no later one, so `after` is the customer's MRR now.
    """

    row_id: str
    before: int
    after: int
    returning: bool = False
    latest: bool = False

    @property
    def kind(self) -> MovementKind:
        if self.before == 0:
            return "reactivation" if self.returning else "new"
        if self.after == 0:
            return "churn"
        return "expansion" if self.after > self.before else "contraction"

    def is_saved_as(self, row: Movement | None) -> bool:
        """Whether the row shows it already."""
        return row is not None and (
            (self.before, self.after, self.kind, self.latest)
            == (row.before, row.after, row.kind, row.latest)
        )


@dataclass(slots=True)
class Recurring:
    """Of each subscription the states around the new ones, and of each customer the movements
    since.

    Attributes:
        states: by subscription, as loaded.
        new: those to be saved.
        complete: the subscriptions of which all states are loaded.
        terms: of discounts, by id.
        new_terms: those to be saved.
        loaded_from: the day from which on a customer's movements are loaded, and the last one
            before.
    """

    states: dict[str, dict[StateKey, SubscriptionState]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    new: dict[str, dict[StateKey, SubscriptionState]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    complete: set[str] = field(default_factory=set)
    terms: dict[str, Terms] = field(default_factory=dict)
    new_terms: dict[str, Terms] = field(default_factory=dict)
    movements: dict[Account, dict[int, Movement]] = field(default_factory=lambda: defaultdict(dict))
    loaded_from: dict[Account, int] = field(default_factory=dict)

    def record(self, state: SubscriptionState, rank: int, event_id: str) -> Iterator[str]:
        """Add a state of a subscription.

        Yields:
            Why the subscription must be fetched.

        Raises:
            Missing: it brings the terms of a discount that earlier states have.
        """
        for terms in state.terms:
            if terms.discount_id not in self.terms:
                if state.subscription_id not in self.complete:
                    raise Missing(histories=[state.subscription_id])
                self.terms[terms.discount_id] = self.new_terms[terms.discount_id] = terms
        if event_id and not all(each in self.terms for each in state.discounts):
            yield "its discounts are not known"
        key = StateKey(state.at, rank, event_id)
        of = self.states[state.subscription_id]
        if state.record == "never" or key in of or key in self.new[state.subscription_id]:
            return
        if state.record == "if changed":
            known = of | self.new[state.subscription_id]
            before = _last({each: known[each] for each in known if each[:2] <= key[:2]})
            if before and not before.event_id and known[before].value == state.value:
                return
        self.new[state.subscription_id][key] = state

    def columns(self, state: SubscriptionState) -> Row:
        """What the subscription's row shows."""
        value = state.value
        renewal = value._replace(gross=value.period_amount if value.gross else 0)
        return {
            "currency": state.currency,
            "mrr": _net(value, state.currency, self.terms),
            "renewal_amount": _net(renewal, state.currency, self.terms),
        }

    def settle(self) -> tuple[dict[Account, dict[int, Movement]], list[str]]:
        """The movements that change, and the rows of those that are gone.

        Raises:
            Missing: movements of earlier days.
        """
        changes: dict[Account, Counter[int]] = defaultdict(Counter)
        known_terms = {k: t for k, t in self.terms.items() if k not in self.new_terms}
        for subscription in self.new.keys() | self.complete:
            loaded, new = self.states[subscription], self.new[subscription]
            for account, day, change in _changes(loaded, known_terms):
                changes[account][day] -= change
            for account, day, change in _changes(loaded | new, self.terms):
                changes[account][day] += change
        changed = {
            account: {day: change for day, change in by_day.items() if change}
            for account, by_day in changes.items()
        }
        first = {account: min(by_day) for account, by_day in changed.items() if by_day}
        if missing := {
            account: day
            for account, day in first.items()
            if day < self.loaded_from.get(account, day + 1)
        }:
            raise Missing(movements=missing)
        moved: dict[Account, dict[int, Movement]] = {}
        gone: list[str] = []
        for account in first:
            self._move(account, changed[account], moved, gone)
        return moved, gone

    def _move(
        self,
        account: Account,
        changes: Mapping[int, int],
        moved: dict[Account, dict[int, Movement]],
        gone: list[str],
    ) -> None:
        first = min(changes)
        loaded = self.movements[account]
        earlier = max((day for day in loaded if day < first), default=None)
        now: dict[int, Movement] = {}
        total, returning = 0, False
        if earlier is not None:
            now[earlier] = replace(loaded[earlier], latest=False)
            total, returning = loaded[earlier].after, True
        for day in sorted({day for day in loaded if day >= first} | changes.keys()):
            before = loaded.get(day)
            change = (before.after - before.before if before else 0) + changes.get(day, 0)
            if change:
                row_id = before.row_id if before else str(uuid4())
                now[day] = Movement(row_id, total, total + change, returning)
                total, returning = total + change, True
            elif before is not None:
                gone.append(before.row_id)
        if now:
            now[max(now)].latest = True
        moved[account] = {
            day: each for day, each in now.items() if not each.is_saved_as(loaded.get(day))
        }


def _net(value: Value, currency: str, terms: Mapping[str, Terms]) -> int:
    """The MRR of a value, after discounts."""
    return discounted(value.gross, value.period_amount, currency, value.discounts, terms)


def day_of(at: int) -> int:
    """Days since 1970."""
    return at // _DAY


def date_of(day: int) -> date:
    return date.fromordinal(_EPOCH + day)


def day_from(text: str) -> int:
    """The number of a day that is written as `2026-05-28`."""
    return date.fromisoformat(text).toordinal() - _EPOCH


def _changes(
    states: Mapping[StateKey, SubscriptionState], terms: Mapping[str, Terms]
) -> Iterator[tuple[Account, int, int]]:
    """By how much the MRR of its customer changes with each state, and on which day.

    States that were not loaded do not matter for the difference that a new state makes, because
    those on both sides of it are loaded.
    """
    account, value = None, 0
    for at, now, new_value in _steps(states, terms):
        if account is not None and account != now:
            yield account, day_of(at), -value
            value = 0
        yield now, day_of(at), new_value - value
        account, value = now, new_value


def _steps(
    states: Mapping[StateKey, SubscriptionState], terms: Mapping[str, Terms]
) -> Iterator[tuple[int, Account, int]]:
    """From when on a subscription is worth how much, and to whom it belongs. The first state also
    says what was before it."""
    is_first = True
    for at, second in groupby(sorted(states), key=lambda key: key.at):
        last = _last({key: states[key] for key in second})
        assert last is not None
        state = states[last]
        account = (state.customer_id, state.currency)
        if is_first and state.had_from is not None and state.had_from < at:
            yield state.had_from, account, _net(state.past, state.currency, terms)
            if state.had_to is not None and state.had_from < state.had_to < at:
                yield state.had_to, account, 0
        is_first = False
        yield at, account, _net(state.value, state.currency, terms)


def _last(states: Mapping[StateKey, SubscriptionState]) -> StateKey | None:
    """The newest of some states.

    Of one second and rank, the last one is that which no other names as the state before it. If
    that leaves several, a fetched state takes precedence over an event's, and of two events, the
    one with the greater id.
    """
    if not states:
        return None
    newest = max(key[:2] for key in states)
    tied = [key for key in states if key[:2] == newest]
    if len(tied) > 1:
        named = Counter(before for key in tied if (before := states[key].before) is not None)
        left = Counter(states[key].value for key in tied) - named
        tied = [key for key in tied if left[states[key].value]] or tied
    return max(tied, key=lambda key: (key.event_id == "", key.event_id))
