"""Objects in memory, by account, mode and kind.

Objects are never modified in place: a change stores a new object under the same id. Events can
therefore refer to an object as it was, without copying it (stripe-facts 32).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from billhook_sandbox.clock import Clock
from billhook_sandbox.errors import CardError, StripeError, resource_missing
from billhook_sandbox.ids import Ids

Json = dict[str, Any]


def deleted_object(kind: str, object_id: str) -> Json:
    """The response to a deletion."""
    return {"id": object_id, "object": kind, "deleted": True}


class Cause(NamedTuple):
    """The API request that caused an event; both null if Stripe caused it."""

    request: str | None = None
    idempotency_key: str | None = None


class Collection:
    """Objects of one kind in order of creation, with indexes that are built on first use."""

    def __init__(self) -> None:
        self.rows: dict[str, Json] = {}
        self.order: list[str] = []
        self.created_times: list[int] = []
        """The creation times of `order`: ascending, except for objects on test clocks."""
        self.inversions = 0
        """How many objects of `order` were created before their predecessor."""
        self.position: dict[str, int] = {}
        self.last = 0
        self.indexes: dict[str, dict[Any, list[str]]] = {}

    def put(self, obj: Json, position: int | None = None) -> None:
        """`position` is given for an object loaded from a file; a new object goes to the end."""
        object_id = obj["id"]
        before = self.rows.get(object_id)
        if object_id not in self.position:
            self.last = self.position[object_id] = position or self.last + 1
            self.order.append(object_id)
            self.created_times.append(obj.get("created", 0))
            self.inversions += self._ends_inverted()
        self.rows[object_id] = obj
        for field, index in self.indexes.items():
            if before is None or before.get(field) != obj.get(field):
                if before is not None:
                    self._remove_from_index(index, before.get(field), object_id)
                self._add_to_index(index, obj.get(field), object_id)

    def _ends_inverted(self) -> bool:
        return len(self.created_times) > 1 and self.created_times[-1] < self.created_times[-2]

    def _place_in_index(self, ids: list[str], object_id: str) -> int:
        return bisect_left(ids, self.position[object_id], key=self.position.__getitem__)

    def _add_to_index(self, index: dict[Any, list[str]], value: Any, object_id: str) -> None:
        ids = index.setdefault(value, [])
        ids.insert(self._place_in_index(ids, object_id), object_id)

    def _remove_from_index(self, index: dict[Any, list[str]], value: Any, object_id: str) -> None:
        ids = index[value]
        del ids[self._place_in_index(ids, object_id)]

    def remove(self, object_id: str) -> None:
        """Keeps its position in the order, so that a list cursor on it stays valid."""
        if object_id in self.rows:
            obj = self.rows.pop(object_id)
            for field, index in self.indexes.items():
                self._remove_from_index(index, obj.get(field), object_id)

    def forget(self, object_id: str) -> None:
        """Removes an object that was never there for others to see."""
        self.remove(object_id)
        if self.order[-1:] == [object_id]:
            self.inversions -= self._ends_inverted()
            self.created_times.pop()
            self.order.pop()
            del self.position[object_id]

    def ids(self, field: str | None, value: Any = None) -> Sequence[str]:
        """Ids in order of creation: all, those of removed objects too, or those whose field has the
        value."""
        if field is None:
            return self.order
        if field not in self.indexes:
            index = self.indexes[field] = {}
            for object_id in self.order:
                if object_id in self.rows:
                    self._add_to_index(index, self.rows[object_id].get(field), object_id)
        return self.indexes[field].get(value, ())

    def where(self, field: str, value: Any) -> list[Json]:
        """Oldest first."""
        return [self.rows[object_id] for object_id in self.ids(field, value)]

    def position_range(self, ids: Sequence[str], oldest: float, newest: float) -> tuple[int, int]:
        """A range of `ids` that includes all objects created between the two times."""
        if ids is not self.order or self.inversions:
            return 0, len(ids)
        return bisect_left(self.created_times, oldest), bisect_right(self.created_times, newest)

    def walk(
        self, ids: Sequence[str], cursor: str | None, newer: bool, position_range: tuple[int, int]
    ) -> Iterator[Json]:
        """Within the range: from the cursor (or the newest) to older objects, or to newer ones."""
        start = 0 if newer else len(ids)
        if cursor is not None:
            at = bisect_left(ids, self.position[cursor], key=self.position.__getitem__)
            found = at < len(ids) and ids[at] == cursor
            start = at + 1 if newer and found else at
        first, end = position_range
        steps = (
            range(max(start, first), end) if newer else range(min(start, end) - 1, first - 1, -1)
        )
        for step in steps:
            obj = self.rows.get(ids[step])
            if obj is not None:
                yield obj


class DataSet:
    """All objects of one account in one mode.

    Kinds that begin with an underscore are internal records (jobs, deliveries, idempotency keys).
    They are stored here so that they are saved in the same transaction as the objects.
    """

    def __init__(self, account: str, livemode: bool, clock: Clock, ids: Ids) -> None:
        self.account = account
        self.livemode = livemode
        self.wall = clock
        """The sandbox's clock."""
        self.clock = clock
        """The clock in use: the sandbox's, or a test clock."""
        self.test_clock: str | None = None
        self.ids = ids
        self.cause = Cause()
        self.in_flight: set[str] = set()
        self.collections: dict[str, Collection] = {}
        self.unsaved: dict[tuple[str, str], Json | None] = {}
        self.validated: dict[str, Json] = {}
        self.before: dict[tuple[str, str], Json | None] = {}
        """The objects as they were before the current change, of those that it touched."""
        self.is_trial = False
        """Whether the changes are undone in the end; events are left out then."""

    @contextmanager
    def on_clock(self, clock: Json | None) -> Iterator[None]:
        """Creates objects at this test clock's time; events keep the sandbox's own time
        (stripe-facts 20)."""
        before = self.clock, self.test_clock
        self.clock = Clock(lambda: clock["frozen_time"]) if clock else self.wall
        self.test_clock = clock["id"] if clock else None
        try:
            yield
        finally:
            self.clock, self.test_clock = before

    def all(self, kind: str) -> Collection:
        return self.collections.setdefault(kind, Collection())

    def saved(self) -> dict[tuple[str, str], Json | None]:
        """Returns what was not saved yet (None: removed); from now on, it is."""
        changes, self.unsaved, self.before = self.unsaved, {}, {}
        return changes

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Undoes what was stored in it if it fails: jobs, events and deliveries too. A payment that
        was attempted stays, with its declined charge."""
        outer, self.before = self.before, {}
        try:
            yield
        except Exception as error:
            if not (isinstance(error, StripeError) and error.keeps_effect):
                # An outcome that was set for a payment is used up by its failure.
                self.undo(outer, keeping="_outcome" if isinstance(error, CardError) else None)
            raise
        finally:
            self.before = {**self.before, **outer}

    @contextmanager
    def trial_run(self) -> Iterator[None]:
        """Undoes at its end what was stored in it; the clock may be set in it."""
        outer, clock, is_trial = self.before, self.clock, self.is_trial
        self.before, self.is_trial = {}, True
        try:
            yield
        finally:
            self.undo(outer)
            self.before, self.clock, self.is_trial = outer, clock, is_trial

    def undo(self, outer: dict[tuple[str, str], Json | None], keeping: str | None = None) -> None:
        """`outer` has the objects that stay unsaved, because they were changed earlier."""
        for key in reversed(self.before):
            kind, object_id = key
            if kind == keeping:
                continue
            obj = self.before[key]
            if obj is not None:
                self.all(kind).put(obj)
            else:
                self.all(kind).forget(object_id)
            if key in outer:
                self.unsaved[key] = obj
            else:
                self.unsaved.pop(key, None)
        self.before = {key: obj for key, obj in self.before.items() if key[0] == keeping}

    def put(self, obj: Json) -> Json:
        key = obj["object"], obj["id"]
        self.before.setdefault(key, self.get(*key))
        self.all(obj["object"]).put(obj)
        self.unsaved[obj["object"], obj["id"]] = obj
        return obj

    def remove(self, kind: str, object_id: str) -> None:
        self.before.setdefault((kind, object_id), self.get(kind, object_id))
        self.all(kind).remove(object_id)
        self.unsaved[kind, object_id] = None

    def get(self, kind: str, object_id: str | None) -> Json | None:
        return self.all(kind).rows.get(object_id) if object_id else None

    def need(self, kind: str, object_id: str, param: str | None = None) -> Json:
        """The object. Raises `resource_missing`: 404 for an id in the path, 400 in a parameter."""
        obj = self.get(kind, object_id)
        if obj is None:
            raise resource_missing(kind, object_id, param or "id", 400 if param else 404)
        return obj
