"""Stripe's API operations, as listed by the services of the installed `stripe` package.

Each service method contains the path, the class of the parameters and the type of the response.
They are read from the source text, because importing all services takes seconds.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

SERVICE = re.compile(r'"(\w+)":\s*\[\s*"([\w.]+)",\s*"\w+",?\s*\]')
METHOD = re.compile(r"^    def (\w+)\(", re.MULTILINE)
REQUEST = re.compile(r'self\._request\(\s*"(\w+)",\s*"(/v[12]/[^"]+)"')
PARAMS = re.compile(r'\bparams: (?:Optional\[\s*)?"(\w+)"')
RESPONSE = re.compile(r"\) -> (.+?):\n", re.DOTALL)
PLACEHOLDER = re.compile(r"\{\w+\}")


class SdkOperation(NamedTuple):
    name: str
    """The name in the SDK, such as `tax_rates.create`."""
    method: str
    path: str
    module: str
    """The module whose imports its annotations refer to."""
    params: str | None
    response: str

    @property
    def shape(self) -> tuple[str, str]:
        """Method and path, without the names of the placeholders."""
        return shape(self.method, self.path)


def shape(method: str, path: str) -> tuple[str, str]:
    return method, PLACEHOLDER.sub("{}", path)


@cache
def root() -> Path:
    package = find_spec("stripe")
    if package is None or package.origin is None:
        raise RuntimeError("The sandbox needs the package `stripe`. Install billhook[dev].")
    return Path(package.origin).parent


def source(module: str) -> str:
    return root().parent.joinpath(*module.split(".")).with_suffix(".py").read_text()


def operations() -> Iterator[SdkOperation]:
    yield from operations_of_service("stripe._v1_services", "")
    yield from operations_of_service("stripe._v2_services", "v2.")


def operations_of_service(module: str, prefix: str) -> Iterator[SdkOperation]:
    text = source(module)
    parts = METHOD.split(text)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        request, response = REQUEST.search(body), RESPONSE.search(body)
        if not request or not response or name.endswith("_async"):
            continue
        params = PARAMS.search(body)
        yield SdkOperation(
            prefix + name,
            request[1].upper(),
            request[2],
            module,
            params[1] if params else None,
            response[1],
        )
    for name, inner in SERVICE.findall(text):
        yield from operations_of_service(inner, f"{prefix}{name}.")


@cache
def path_tree() -> dict[str, Any]:
    """Nested dicts by path segment; at the end of a path, its operations by method."""
    tree: dict[str, Any] = {}
    for operation in operations():
        node = tree
        for part in PLACEHOLDER.sub("{}", operation.path).split("/")[1:]:
            node = node.setdefault(part, {})
        node.setdefault(END, {})[operation.method] = operation
    return tree


END = "/"


def sdk_operation(method: str, path: str) -> SdkOperation | None:
    """The operation for a method and path; a fixed segment takes precedence over a placeholder."""
    return search(path_tree(), method, path.split("/")[1:])


def search(node: dict[str, Any], method: str, parts: list[str]) -> SdkOperation | None:
    if not parts:
        found: SdkOperation | None = node.get(END, {}).get(method)
        return found
    for step in (parts[0], "{}"):
        if parts[0] and step in node and (found := search(node[step], method, parts[1:])):
            return found
    return None
