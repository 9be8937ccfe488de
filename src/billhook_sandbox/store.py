"""Objects in memory, by account, mode and kind.

An object is never changed in place: a change puts a new object where the old one was. So whoever
holds the old one (an event, above all: stripe-facts 32) keeps it as it was, without a copy.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from billhook_sandbox.clock import Clock
from billhook_sandbox.errors import resource_missing
from billhook_sandbox.ids import Ids

Json = dict[str, Any]


class Cause(NamedTuple):
    """The API request behind an event; both null for automatic work."""

    request: str | None = None
    idempotency_key: str | None = None


class Collection:
    """Objects of one kind in order of birth, with indexes that are built when first asked for."""

    def __init__(self) -> None:
        self.rows: dict[str, Json] = {}
        self.order: list[str] = []
        self.created_times: list[int] = []
        """When each of `order` was created: rising, but for those of a test clock."""
        self.chronological = True
        self.position: dict[str, int] = {}
        self.last = 0
        self.indexes: dict[str, dict[Any, list[str]]] = {}

    def put(self, obj: Json, position: int | None = None) -> None:
        """`position` is given when a saved object comes back; a new one goes to the end."""
        name = obj["id"]
        before = self.rows.get(name)
        if name not in self.position:
            self.last = self.position[name] = position or self.last + 1
            self.order.append(name)
            created = obj.get("created", 0)
            self.chronological &= not self.created_times or created >= self.created_times[-1]
            self.created_times.append(created)
        self.rows[name] = obj
        for field, index in self.indexes.items():
            if before is None or before.get(field) != obj.get(field):
                self._enter(index, obj.get(field), name)

    def _enter(self, index: dict[Any, list[str]], value: Any, name: str) -> None:
        names = index.setdefault(value, [])
        at = bisect_left(names, self.position[name], key=self.position.__getitem__)
        if names[at : at + 1] != [name]:
            names.insert(at, name)

    def remove(self, name: str) -> None:
        """Its place in the order stays, so that a list cursor on it still points somewhere."""
        self.rows.pop(name, None)

    def named(self, field: str | None, value: Any = None) -> Sequence[str]:
        """Names in order of birth: all, or those whose field once had the value."""
        if field is None:
            return self.order
        if field not in self.indexes:
            index = self.indexes[field] = {}
            for name in self.order:
                if name in self.rows:
                    self._enter(index, self.rows[name].get(field), name)
        return self.indexes[field].get(value, ())

    def where(self, field: str, value: Any) -> list[Json]:
        """Oldest first."""
        found = (self.rows.get(name) for name in self.named(field, value))
        return [obj for obj in found if obj is not None and obj.get(field) == value]

    def position_range(self, names: Sequence[str], oldest: float, newest: float) -> tuple[int, int]:
        """Between which places in `names` stand all that were created then, and perhaps others."""
        if names is not self.order or not self.chronological:
            return 0, len(names)
        return bisect_left(self.created_times, oldest), bisect_right(self.created_times, newest)

    def walk(
        self, names: Sequence[str], cursor: str | None, newer: bool, position_range: tuple[int, int]
    ) -> Iterator[Json]:
        """From the cursor (or the end) to the older ones, or to the newer ones, in a stretch."""
        start = 0 if newer else len(names)
        if cursor is not None:
            at = bisect_left(names, self.position[cursor], key=self.position.__getitem__)
            here = at < len(names) and names[at] == cursor
            start = at + 1 if newer and here else at
        first, end = position_range
        steps = (
            range(max(start, first), end) if newer else range(min(start, end) - 1, first - 1, -1)
        )
        for step in steps:
            obj = self.rows.get(names[step])
            if obj is not None:
                yield obj


class DataSet:
    """Everything that one account owns in one mode.

    Kinds that begin with an underscore are the sandbox's own notes (jobs, deliveries, answers to
    idempotency keys); they live here so that they are kept and lost together with the objects.
    """

    def __init__(self, account: str, livemode: bool, clock: Clock, ids: Ids) -> None:
        self.account = account
        self.livemode = livemode
        self.wall = clock
        self.clock = clock
        self.test_clock: str | None = None
        self.ids = ids
        self.cause = Cause()
        self.in_flight: set[str] = set()
        self.collections: dict[str, Collection] = {}
        self.unsaved: dict[tuple[str, str], Json | None] = {}
        self.validated: dict[str, Json] = {}

    @contextmanager
    def on_clock(self, clock: Json | None) -> Iterator[None]:
        """Within, objects carry the time of this test clock; events keep the sandbox's own
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

    def put(self, obj: Json) -> Json:
        self.all(obj["object"]).put(obj)
        self.unsaved[obj["object"], obj["id"]] = obj
        return obj

    def remove(self, kind: str, name: str) -> None:
        self.all(kind).remove(name)
        self.unsaved[kind, name] = None

    def get(self, kind: str, name: str | None) -> Json | None:
        return self.all(kind).rows.get(name) if name else None

    def need(self, kind: str, name: str, param: str | None = None) -> Json:
        """The object, or Stripe's error: 404 for an id in the path, 400 for one in a parameter."""
        obj = self.get(kind, name)
        if obj is None:
            raise resource_missing(kind, name, param or "id", 400 if param else 404)
        return obj
