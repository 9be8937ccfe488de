"""Stripe's operations as the services of the installed SDK name them.

Each service method holds its path, the class of its parameters and the type of its answer. They
are found in the text of the services, because importing all of them takes seconds.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

SERVICE = re.compile(r'"(\w+)":\s*\[\s*"([\w.]+)",\s*"\w+",?\s*\]')
METHOD = re.compile(r"^    def (\w+)\(", re.MULTILINE)
REQUEST = re.compile(r'self\._request\(\s*"(\w+)",\s*"(/v1/[^"]+)"')
PARAMS = re.compile(r'\bparams: (?:Optional\[\s*)?"(\w+)"')
ANSWER = re.compile(r"\) -> (.+?):\n", re.DOTALL)
PLACEHOLDER = re.compile(r"\{\w+\}")


class SdkOperation(NamedTuple):
    name: str
    """As the SDK calls it, such as `tax_rates.create`."""
    method: str
    path: str
    module: str
    """Where its annotations are to be understood."""
    params: str | None
    answer: str

    @property
    def shape(self) -> tuple[str, str]:
        """The same for the same operation, however its placeholders are named."""
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
    yield from of_service("stripe._v1_services", "")


def of_service(module: str, prefix: str) -> Iterator[SdkOperation]:
    text = source(module)
    parts = METHOD.split(text)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        request, answer = REQUEST.search(body), ANSWER.search(body)
        if not request or not answer or name.endswith("_async"):
            continue
        params = PARAMS.search(body)
        yield SdkOperation(
            prefix + name,
            request[1].upper(),
            request[2],
            module,
            params[1] if params else None,
            answer[1],
        )
    for name, inner in SERVICE.findall(text):
        yield from of_service(inner, f"{prefix}{name}.")


@cache
def tree() -> dict[str, Any]:
    """Path by path segment; at the end of a path its operations by method."""
    found: dict[str, Any] = {}
    for operation in operations():
        node = found
        for part in PLACEHOLDER.sub("{}", operation.path).split("/")[1:]:
            node = node.setdefault(part, {})
        node.setdefault(ENDS, {})[operation.method] = operation
    return found


ENDS = "/"


def sdk_operation(method: str, path: str) -> SdkOperation | None:
    """The operation that Stripe would answer; a fixed segment goes before a placeholder."""
    return search(tree(), method, path.split("/")[1:])


def search(node: dict[str, Any], method: str, parts: list[str]) -> SdkOperation | None:
    if not parts:
        found: SdkOperation | None = node.get(ENDS, {}).get(method)
        return found
    for step in (parts[0], "{}"):
        if parts[0] and step in node and (found := search(node[step], method, parts[1:])):
            return found
    return None
