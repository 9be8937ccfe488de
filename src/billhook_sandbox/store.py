"""Objects in memory, by account, mode and kind.

Objects are never modified in place: a change stores a new object under the same id. Events can
therefore refer to an object as it was, without copying it (stripe-facts 32).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from billhook_sandbox.clock import Clock
from billhook_sandbox.errors import resource_missing
from billhook_sandbox.ids import Ids

Json = dict[str, Any]


CONSEQUENCES = frozenset({"_delivery", "_job", "_newest_event", "event", "webhook_endpoint"})
"""The kinds of objects that no operation on others depends on."""


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
        self.chronological = True
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
            created = obj.get("created", 0)
            self.chronological &= not self.created_times or created >= self.created_times[-1]
            self.created_times.append(created)
        self.rows[object_id] = obj
        for field, index in self.indexes.items():
            if before is None or before.get(field) != obj.get(field):
                self._add_to_index(index, obj.get(field), object_id)

    def copy(self) -> "Collection":
        copy = Collection()
        copy.rows, copy.order, copy.position = dict(self.rows), list(self.order), {**self.position}
        copy.created_times, copy.chronological = list(self.created_times), self.chronological
        copy.last = self.last
        return copy

    def _add_to_index(self, index: dict[Any, list[str]], value: Any, object_id: str) -> None:
        ids = index.setdefault(value, [])
        at = bisect_left(ids, self.position[object_id], key=self.position.__getitem__)
        if ids[at : at + 1] != [object_id]:
            ids.insert(at, object_id)

    def remove(self, object_id: str) -> None:
        """Keeps its position in the order, so that a list cursor on it stays valid."""
        self.rows.pop(object_id, None)

    def forget(self, object_id: str) -> None:
        """Removes an object as if it had never been there. Its position stays unused."""
        obj = self.rows.pop(object_id, None)
        if self.order and self.order[-1] == object_id:
            self.order.pop()
            self.created_times.pop()
            for field, index in self.indexes.items():
                ids = index.get((obj or {}).get(field), [])
                if ids and ids[-1] == object_id:
                    ids.pop()
            del self.position[object_id]

    def ids(self, field: str | None, value: Any = None) -> Sequence[str]:
        """Ids in order of creation: all, or those whose field has or once had the value."""
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
        found = (self.rows.get(object_id) for object_id in self.ids(field, value))
        return [obj for obj in found if obj is not None and obj.get(field) == value]

    def position_range(self, ids: Sequence[str], oldest: float, newest: float) -> tuple[int, int]:
        """A range of `ids` that includes all objects created between the two times."""
        if ids is not self.order or not self.chronological:
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
        """The objects as they were before the current request, of those that it changed."""

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

    def scratch(self) -> "DataSet":
        """A copy in which a change can be tried out. What is put there is neither saved nor
        scheduled, and its events go nowhere."""
        scratch = DataSet(self.account, self.livemode, self.wall, self.ids)
        scratch.clock, scratch.test_clock = self.clock, self.test_clock
        scratch.collections = {
            kind: collection.copy()
            for kind, collection in self.collections.items()
            if kind not in CONSEQUENCES
        }
        return scratch

    def all(self, kind: str) -> Collection:
        return self.collections.setdefault(kind, Collection())

    def begin(self) -> None:
        """Begins a request, which `roll_back` can undo."""
        self.before = {}

    def roll_back(self) -> None:
        """Undoes what the request stored, jobs, events and deliveries included."""
        self.undo(self.before, {})
        self.before = {}

    @contextmanager
    def trial_run(self) -> Iterator[None]:
        """Undoes at its end what was stored in it; the clock may be set in it."""
        outer, clock, self.before = self.before, self.clock, {}
        try:
            yield
        finally:
            self.undo(self.before, outer)
            self.before, self.clock = outer, clock

    def undo(self, before: dict[tuple[str, str], Json | None], outer: Container[object]) -> None:
        """`outer` has the keys that stay unsaved, because they were changed earlier."""
        for key in reversed(before):
            obj = before[key]
            if obj is None:
                self.all(key[0]).forget(key[1])
            else:
                self.all(key[0]).put(obj)
            if key in outer:
                self.unsaved[key] = obj
            else:
                self.unsaved.pop(key, None)

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
