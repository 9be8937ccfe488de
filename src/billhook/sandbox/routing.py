"""Which function answers which method and path."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from billhook.sandbox.errors import unknown_route
from billhook.sandbox.params import Form
from billhook.sandbox.store import DataSet, Json


class Call(NamedTuple):
    """What a handler is given."""

    data: DataSet
    params: Json
    path: Mapping[str, str]
    site: str
    """Address under which the hosted pages are reached."""

    @property
    def id(self) -> str:
        return self.path["id"]


class Operation(NamedTuple):
    method: str
    path: str
    form: Form
    answer: Callable[[Call], Json]


class Routes:
    def __init__(self, operations: Iterable[Operation]) -> None:
        self.by_shape: dict[tuple[str, int], list[tuple[list[str], Operation]]] = {}
        for operation in operations:
            parts = operation.path.split("/")
            self.by_shape.setdefault((operation.method, len(parts)), []).append((parts, operation))

    def match(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:
        parts = path.split("/")
        for pattern, operation in self.by_shape.get((method, len(parts)), ()):
            found = {}
            for expected, part in zip(pattern, parts, strict=True):
                if expected.startswith("{") and part:
                    found[expected[1:-1]] = part
                elif expected != part:
                    break
            else:
                return operation, found
        raise unknown_route(method, path)
