"""The types of Stripe's objects and parameters, read from the annotations of the installed SDK.

They are the exact schema of the pinned API version (stripe-facts, section 1). They are read from
the syntax tree, because names imported under `TYPE_CHECKING` do not exist at run time.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from billhook_sandbox.sdk_operations import root, source


@dataclass(frozen=True, slots=True)
class Scalar:
    """`str`, `int`, `float`, `bool`, `Decimal`, or `Any` for an untyped value."""

    name: str


@dataclass(frozen=True, slots=True)
class OneOf:
    values: tuple[object, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    item: "Type"


@dataclass(frozen=True, slots=True)
class PageOf:
    """A list object of the API, or a search result."""

    item: "Type"


@dataclass(frozen=True, slots=True)
class MapOf:
    item: "Type"


@dataclass(frozen=True, slots=True)
class Union:
    options: tuple["Type", ...]


@dataclass(frozen=True, slots=True)
class Record:
    """A class with fields. They are read on first use, because classes refer to each other."""

    module: str
    path: str


Type = Scalar | OneOf | ListOf | PageOf | MapOf | Union | Record


class Field(NamedTuple):
    type: Type
    annotation: str
    required: bool
    nullable: bool


ANY, STR = Scalar("Any"), Scalar("str")
SCALARS: dict[str, Type] = {
    **{name: Scalar(name) for name in ("str", "int", "float", "bool", "Decimal", "Any")},
    "None": OneOf((None,)),
    "object": ANY,
    "StripeObject": MapOf(ANY),
    "UntypedStripeObject": MapOf(ANY),
}


@cache
def module_tree(module: str) -> tuple[ast.Module, dict[str, tuple[str, str]]]:
    """The module's syntax tree, and the modules that its imported names come from."""
    tree = ast.parse(source(module))
    imports = {
        alias.asname or alias.name: (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    return tree, imports


@cache
def find_class(module: str, path: str) -> ast.ClassDef | None:
    """A class by its dotted path inside the module."""
    node: ast.Module | ast.ClassDef = module_tree(module)[0]
    for part in path.split("."):
        inner = (c for c in node.body if isinstance(c, ast.ClassDef) and c.name == part)
        found = next(inner, None)
        if found is None:
            return None
        node = found
    return node if isinstance(node, ast.ClassDef) else None


def object_class(kind: str) -> Record | None:
    """The class of objects with `"object": kind`."""
    return object_classes().get(kind)


@cache
def object_classes() -> dict[str, Record]:
    pattern = re.compile(
        r'^class (\w+)\((?:(?!^class ).)*?^    OBJECT_NAME: ClassVar\[\s*Literal\[\s*"([\w.]+)"',
        re.M | re.S,
    )
    found = {}
    for file in sorted(root().rglob("_*.py")):
        folder = file.parent.relative_to(root()).parts
        if folder[:1] in (("v2",), ("params",)):
            continue
        module = ".".join(("stripe", *folder, file.stem))
        for name, kind in pattern.findall(file.read_text()):
            found[kind] = Record(module, name)
    return found


@cache
def fields(record: Record) -> dict[str, Field]:
    """The fields by their name in JSON."""
    node = find_class(record.module, record.path)
    if node is None:
        raise LookupError(f"The package `stripe` has no class {record.module}:{record.path}.")
    renamed = renames(node)
    return {
        renamed.get(name, name): read_field(record, annotation)
        for name, annotation in annotations(record, node)
    }


def annotations(record: Record, node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id.startswith("_"):
            yield from functional_fields(record.module, base.id)
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            constant = ast.unparse(statement.annotation).startswith("ClassVar")
            if not statement.target.id.startswith("_") and not constant:
                yield statement.target.id, statement.annotation


def functional_fields(module: str, name: str) -> Iterator[tuple[str, ast.expr]]:
    """`_Base = TypedDict("…", {"in": …})`, used for fields that are Python keywords."""
    for statement in module_tree(module)[0].body:
        if not isinstance(statement, ast.Assign) or ast.unparse(statement.targets[0]) != name:
            continue
        if isinstance(statement.value, ast.Call) and isinstance(statement.value.args[1], ast.Dict):
            declared = statement.value.args[1]
            for key, annotation in zip(declared.keys, declared.values, strict=True):
                if isinstance(key, ast.Constant):
                    yield str(key.value), annotation


def renames(node: ast.ClassDef) -> dict[str, str]:
    """Attributes whose name in JSON differs, such as `from`."""
    for statement in node.body:
        if not isinstance(statement, ast.Assign):
            continue
        if ast.unparse(statement.targets[0]) == "_field_remappings":
            found: dict[str, str] = ast.literal_eval(statement.value)
            return found
    return {}


def read_field(record: Record, annotation: ast.expr) -> Field:
    node = unquoted(annotation)
    text = ast.unparse(node)
    head = outer(node)
    if isinstance(node, ast.Subscript) and head in ("Optional", "NotRequired"):
        inner = unquoted(node.slice)
        nullable = head == "Optional" or outer(inner) == "Optional"
        if isinstance(inner, ast.Subscript) and outer(inner) == "Optional":
            inner = inner.slice
        return Field(read(record, inner), text, required=False, nullable=nullable)
    return Field(read(record, node), text, required=True, nullable=False)


def unquoted(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return unquoted(ast.parse(node.value.strip(), mode="eval").body)
    return node


def outer(node: ast.expr) -> str:
    return ast.unparse(node.value).rpartition(".")[2] if isinstance(node, ast.Subscript) else ""


def read(record: Record, annotation: ast.expr) -> Type:
    node = unquoted(annotation)
    if isinstance(node, ast.BinOp):
        return union(read(record, node.left), read(record, node.right))
    if isinstance(node, ast.Subscript):
        return generic(record, node)
    return resolve(record, ast.unparse(node))


def generic(record: Record, node: ast.Subscript) -> Type:
    arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    head = outer(node)
    if head == "Literal":
        return OneOf(tuple(ast.literal_eval(argument) for argument in arguments))
    inner = [read(record, argument) for argument in arguments]
    match head:
        case "Union":
            return union(*inner)
        case "ExpandableField":
            return union(STR, *inner)
        case "List" | "list":
            return ListOf(inner[0])
        case "ListObject" | "SearchResultObject":
            return PageOf(inner[0])
        case "Dict" | "UntypedStripeObject":
            return MapOf(inner[-1])
        case "Optional" | "NotRequired":
            return union(OneOf((None,)), *inner)
    raise LookupError(f"The package `stripe` uses an unknown type: {head}.")


def union(*options: Type) -> Type:
    """Flattens nested unions. In `Literal["a", "b"] | str` only the literals are kept: `str` allows
    values of later API versions."""
    flat: list[Type] = []
    for option in options:
        flat += option.options if isinstance(option, Union) else [option]
    enums = [option for option in flat if isinstance(option, OneOf) and option.values != ("",)]
    if enums:
        flat = [option for option in flat if option != STR]
    unique: tuple[Type, ...] = tuple(dict.fromkeys(flat))
    return unique[0] if len(unique) == 1 else Union(unique)


def resolve(record: Record, name: str) -> Type:
    if name in SCALARS:
        return SCALARS[name]
    scope = record.path.split(".") if record.path else []
    for depth in range(len(scope), -1, -1):  # from the innermost scope outwards
        candidate = ".".join([*scope[:depth], name])
        if find_class(record.module, candidate):
            return Record(record.module, candidate)
    head, _, rest = name.partition(".")
    module, original = module_tree(record.module)[1][head]
    return Record(module, f"{original}.{rest}" if rest else original)


@cache
def read_text(module: str, annotation: str) -> Type:
    """The type of an annotation in the module's source text."""
    return read(Record(module, ""), ast.parse(annotation.strip(), mode="eval").body)
