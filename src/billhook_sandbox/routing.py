"""Which function answers which method and path."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from billhook_sandbox.errors import not_supported, unknown_route
from billhook_sandbox.params import Form
from billhook_sandbox.sdk_operations import SdkOperation, sdk_operation, shape
from billhook_sandbox.store import DataSet, Json


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


class Match(NamedTuple):
    operation: Operation
    path: dict[str, str]
    sdk: SdkOperation | None
    """What the SDK says about it; nothing about those that only Stripe's own pages and CLI call."""


class Routes:
    def __init__(self, operations: Iterable[Operation]) -> None:
        self.by_shape = {shape(found.method, found.path): found for found in operations}

    def match(self, method: str, path: str) -> Match:
        known = sdk_operation(method, path)
        if known is not None:
            if built := self.by_shape.get(known.shape):
                return Match(built, path_params(built, path) or {}, known)
            raise not_supported(f"{method} {known.path}", known.name)
        for operation in self.by_shape.values():
            if operation.method == method and (found := path_params(operation, path)) is not None:
                return Match(operation, found, None)
        raise unknown_route(method, path)


def path_params(operation: Operation, path: str) -> dict[str, str] | None:
    """What stands where the operation's path has placeholders; None if it is another path."""
    parts, expected = path.split("/"), operation.path.split("/")
    if len(parts) != len(expected):
        return None
    found = {}
    for name, part in zip(expected, parts, strict=True):
        if name.startswith("{") and part:
            found[name[1:-1]] = part
        elif name != part:
            return None
    return found
