"""The newest state is shown, in any order of arrival."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest

from billhook.kinds import KINDS
from billhook.projections import Event, project
from billhook.reducers import newest_wins
from billhook.reducers.missing import Missing
from billhook.reducers.newest_wins import (
    Document,
    Mirrored,
    Shown,
    Version,
    break_tie,
    was_before,
)
from billhook.reducers.reduce import State, reduce_events

PRODUCT = KINDS["product"]


def state(name: str) -> dict[str, Any]:
    return {"id": "prod_1", "object": "product", "name": name, "active": True}


def show(mirrored: Mirrored, name: str, version: Version, number: int = 1) -> set[str]:
    found = state(name)
    row = PRODUCT.row(found)
    assert row is not None
    return newest_wins.show(mirrored, row, version, Document(number, found))


def product() -> Mirrored:
    return Mirrored(PRODUCT, ("product", "prod_1"))


def test_the_newest_of_several_states_is_shown_in_any_order() -> None:
    states = [
        ("created", Version(100, 0, "evt_1")),
        ("updated in the same second", Version(100, 1, "evt_2")),
        ("fetched later", Version(150, 1, None)),
        ("updated last", Version(200, 1, "evt_3")),
    ]
    for order in permutations(states):
        found = product()
        for name, version in order:
            assert show(found, name, version) == set()
        assert found.row is not None
        assert found.row["name"] == "updated last"


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_a_deletion_keeps_older_states_out_and_lets_newer_ones_in(order: tuple[int, ...]) -> None:
    steps = [
        lambda found: show(found, "before", Version(100, 1, "evt_1")),
        lambda found: newest_wins.delete(found, 150),
        lambda found: show(found, "created again", Version(200, 0, "evt_2")),
    ]
    found = product()
    for number in order:
        steps[number](found)
    assert found.row is not None
    assert (found.row["name"], found.removed, found.deleted_at) == ("created again", False, 150)


def test_what_the_previous_attributes_say_decides_within_a_second() -> None:
    first = Version(100, 1, "evt_b", previous={"name": "A"})
    second = Version(100, 1, "evt_a", previous={"name": "B"})
    tie = break_tie(first, state("B"), second, state("C"))
    assert (tie.wins, tie.undecided) == (True, False)
    tie = break_tie(second, state("C"), first, state("B"))
    assert (tie.wins, tie.undecided) == (False, False)


def test_where_nothing_decides_stripe_is_asked() -> None:
    one, other = Version(100, 1, "evt_1"), Version(100, 1, "evt_2")
    assert break_tie(one, state("A"), other, state("B")).undecided
    assert not break_tie(one, state("A"), other, state("A")).undecided
    found = product()
    show(found, "A", one)
    assert show(found, "B", other) == {"several changes in one second"}
    assert found.tied == "evt_2"


def test_the_state_of_a_row_is_asked_for_only_to_break_a_tie() -> None:
    found = product()
    found.shown = newest_wins.Shown(Version(100, 1, "evt_1"))
    assert show(found, "older", Version(99, 1, "evt_0")) == set()
    with pytest.raises(Missing) as missing:
        show(found, "same second", Version(100, 1, "evt_2"))
    assert missing.value.ties == {("product", "prod_1")}


def test_nested_hashes_are_compared_key_by_key() -> None:
    now = {"metadata": {"a": "1", "b": "2"}, "name": "Tea"}
    assert was_before(now, {"metadata": {"a": "1"}})
    assert was_before(now, {"metadata": {"c": None}})
    assert not was_before(now, {"metadata": {"a": "2"}})


def test_a_batch_says_at_once_which_states_it_needs_to_break_its_ties() -> None:
    tied = [("product", f"prod_{number}") for number in range(3)]
    loaded = {key: Mirrored(PRODUCT, key, Shown(Version(100, 1, "evt_0"))) for key in tied}
    events = [
        Event(f"evt_1{object_id}", "product.updated", 100, state("Tea") | {"id": object_id}, None)
        for _, object_id in tied
    ]
    with pytest.raises(Missing) as missing:
        reduce_events(State(objects=dict(loaded)), [(each, project(each)) for each in events])
    assert missing.value.ties == set(tied)
