"""Routes: which function handles which method and path."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from urllib.parse import unquote

from starlette.requests import Request

from billhook_sandbox.errors import not_supported, unknown_route
from billhook_sandbox.params import Form
from billhook_sandbox.sdk_operations import SdkOperation, sdk_operation, shape
from billhook_sandbox.store import DataSet, Json

SLASH = "\U0010fffe"
"""Stands for an encoded slash, which does not end a segment of the path. Unicode assigns this code
point to no character."""


def path_of(request: Request) -> str:
    """The decoded path of the request; `SLASH` stands for `%2F`."""
    raw = request.scope["raw_path"].decode("ascii", "replace")
    return unquote(raw.replace("%2F", SLASH).replace("%2f", SLASH))


class Call(NamedTuple):
    """The arguments of a handler."""

    data: DataSet
    params: Json
    path: Mapping[str, str]
    base_url: str
    """Where the hosted pages are reached."""

    @property
    def id(self) -> str:
        return self.path["id"]


class Operation(NamedTuple):
    method: str
    path: str
    form: Form
    handler: Callable[[Call], Json]


class Match(NamedTuple):
    operation: Operation
    path: dict[str, str]
    sdk: SdkOperation | None
    """The SDK's description; None for routes that only Stripe's own pages and CLI call."""


class Routes:
    def __init__(self, operations: Iterable[Operation]) -> None:
        self.by_shape = {shape(each.method, each.path): each for each in operations}

    def match(self, method: str, path: str) -> Match:
        in_sdk = sdk_operation(method, path)
        if in_sdk is not None:
            if operation := self.by_shape.get(in_sdk.shape):
                return Match(operation, path_params(operation, path) or {}, in_sdk)
            raise not_supported(f"{method} {in_sdk.path}", in_sdk.name)
        for operation in self.by_shape.values():
            if operation.method == method and (found := path_params(operation, path)) is not None:
                return Match(operation, found, None)
        raise unknown_route(method, path)


def path_params(operation: Operation, path: str) -> dict[str, str] | None:
    """The values of the placeholders in the operation's path; None if the path does not match."""
    parts, expected = path.split("/"), operation.path.split("/")
    if len(parts) != len(expected):
        return None
    found = {}
    for name, part in zip(expected, parts, strict=True):
        if name.startswith("{") and part:
            found[name[1:-1]] = part.replace(SLASH, "/")
        elif name != part:
            return None
    return found
