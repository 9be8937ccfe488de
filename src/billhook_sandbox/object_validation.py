"""Validates the sandbox's objects against the types of the SDK.

Always on: a request that creates an object that Stripe could not send must fail. Each class is
compiled to a function on first use; a valid object takes microseconds. Null and absent are not
distinguished, because the annotations don't.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from billhook_sandbox.errors import SchemaMismatch
from billhook_sandbox.sdk_operations import SdkOperation
from billhook_sandbox.sdk_types import (
    ListOf,
    MapOf,
    OneOf,
    PageOf,
    Record,
    Scalar,
    Type,
    Union,
    fields,
    object_class,
    read_text,
)

Json = dict[str, Any]


class Mismatch(NamedTuple):
    path: tuple[str, ...]
    problem: str
    owner: str = ""
    """The innermost class on the path."""

    def below(self, step: str, owner: str = "") -> "Mismatch":
        return Mismatch((step, *self.path), self.problem, self.owner or owner)


Check = Callable[[Any], Mismatch | None]

# Fields of real objects that no type lists (stripe-facts 25).
UNDOCUMENTED_FIELDS = {
    Record("stripe._subscription", "Subscription"): ("plan", "quantity"),
}
LIST_KEYS = {"object", "data", "has_more", "url"}
UNDOCUMENTED_LIST_KEYS = {"total_count", "next_page"}
NO_RESPONSE = '"None"'
DELETED_KEYS = {"id", "object", "deleted"}
DECIMAL = re.compile(r"-?\d+(\.\d+)?")


def validate_response(
    operation: SdkOperation | None, body: Json, validated: dict[str, Json]
) -> None:
    """Raises SchemaMismatch. Operations that only Stripe's own pages and CLI call have no type.

    `validated` caches the objects of earlier lists: stored objects never change, so they need no
    second validation.
    """
    if operation is None or operation.response == NO_RESPONSE:
        return
    type_ = read_text(operation.module, operation.response)
    if not isinstance(type_, PageOf):
        raise_unless_valid(type_, body)
        return
    new = [each for each in body["data"] if validated.get(each.get("id")) is not each]
    raise_unless_valid(type_, {**body, "data": new})
    validated.update((each["id"], each) for each in new if "id" in each)


def raise_unless_valid(type_: Type, body: Json) -> None:
    if found := check(type_)(body):
        raise mismatch_error(body, found)


def validate_object(obj: Json) -> None:
    """Raises SchemaMismatch if the object does not have the type that its `object` names."""
    record = object_class(obj["object"])
    if record is None:
        raise mismatch_error(
            obj,
            Mismatch(("object",), f"is {obj['object']!r}, which is not the `object` of any class"),
        )
    raise_unless_valid(record, obj)


def mismatch_error(obj: Json, found: Mismatch) -> SchemaMismatch:
    place = ".".join(found.path) or "it"
    owner = f" ({found.owner})" if found.owner else ""
    name = f"{obj.get('object', 'object')} {obj.get('id', '')}".strip()
    return SchemaMismatch(
        f"The sandbox created a {name} that Stripe's types don't allow: {place} {found.problem}"
        f"{owner}. This is a bug in the sandbox; please report it.",
        code="sandbox_wrong_shape",
        param=".".join(found.path),
    )


@cache
def check(type_: Type) -> Check:
    match type_:
        case Scalar(name):
            return SCALARS[name]
        case OneOf(values):
            return one_of(values)
        case ListOf(item):
            return list_of(check(item))
        case PageOf(item):
            return page_of(check(item))
        case MapOf(item):
            return map_of(check(item))
        case Union(options):
            return any_of(tuple(check(option) for option in options))
        case Record():
            return record_of(type_)


def shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:60] + "…"


def exactly(expected: str, *types: type) -> Check:
    """Compares exact types, because True is an instance of int."""
    mismatch = Mismatch((), f"is not {expected}")
    if len(types) == 1:
        only = types[0]
        return lambda value: None if type(value) is only else mismatch
    return lambda value: None if type(value) in types else mismatch


def decimal(value: Any) -> Mismatch | None:
    if isinstance(value, str) and DECIMAL.fullmatch(value):
        return None
    return Mismatch((), f"is {shorten(value)}, not a decimal as a string")


SCALARS: dict[str, Check] = {
    "Any": lambda value: None,
    "Decimal": decimal,
    "bool": exactly("a bool", bool),
    "float": exactly("a number", float, int),
    "int": exactly("an int", int),
    "str": exactly("a str", str),
}


def one_of(values: tuple[object, ...]) -> Check:
    def check_one_of(value: Any) -> Mismatch | None:
        if value in values:
            return None
        return Mismatch((), f"is {shorten(value)}, not one of {', '.join(map(str, values))}")

    return check_one_of


def list_of(item: Check) -> Check:
    def check_list(value: Any) -> Mismatch | None:
        if type(value) is not list:
            return Mismatch((), "is not a list")
        for index, member in enumerate(value):
            if found := item(member):
                return found.below(str(index))
        return None

    return check_list


def page_of(item: Check) -> Check:
    members = list_of(item)

    def check_page(value: Any) -> Mismatch | None:
        if type(value) is not dict or value.get("object") not in ("list", "search_result"):
            return Mismatch((), "is not a list object")
        if missing := LIST_KEYS - value.keys():
            return Mismatch((min(missing),), "is missing")
        if unknown := value.keys() - LIST_KEYS - UNDOCUMENTED_LIST_KEYS:
            return Mismatch((min(unknown),), "is not a key of a list object")
        found = members(value["data"])
        return found.below("data") if found else None

    return check_page


def map_of(item: Check) -> Check:
    def check_map(value: Any) -> Mismatch | None:
        if type(value) is not dict:
            return Mismatch((), "is not a map")
        for key, member in value.items():
            if found := item(member):
                return found.below(key)
        return None

    return check_map


def any_of(options: tuple[Check, ...]) -> Check:
    def check_any(value: Any) -> Mismatch | None:
        closest: Mismatch | None = None
        for option in options:
            found = option(value)
            if found is None:
                return None
            if closest is None or len(found.path) > len(closest.path):
                closest = found
        return closest

    return check_any


def record_of(record: Record) -> Check:
    """Reads the fields on the first object, because classes refer to each other."""
    checks: dict[str, Check] = {}
    required: frozenset[str] = frozenset()
    owner = f"{record.module}:{record.path}"

    def load() -> None:
        nonlocal required
        declared = fields(record)
        required = frozenset(name for name, field in declared.items() if field.required)
        checks.update({name: SCALARS["Any"] for name in UNDOCUMENTED_FIELDS.get(record, ())})
        for name, field in declared.items():
            inner = check(field.type)
            checks[name] = or_null(inner) if field.nullable else inner

    def check_record(value: Any) -> Mismatch | None:
        if type(value) is not dict:
            return Mismatch((), "is not an object")
        if not checks and not required:
            load()
        for key, member in value.items():
            inner = checks.get(key)
            if inner is None:
                return Mismatch((key,), "is not a field", owner)
            found = inner(member)
            if found is not None:
                return found.below(key, f"{owner}.{key}: {annotation(key)}")
        if not required <= value.keys():
            deleted = value.get("deleted") is True and "deleted" in checks
            if missing := (DELETED_KEYS if deleted else required) - value.keys():
                name = min(missing)
                return Mismatch((name,), "is missing", f"{owner}.{name}: {annotation(name)}")
        return None

    def annotation(key: str) -> str:
        field = fields(record).get(key)
        return field.annotation if field else "undocumented"

    return check_record


def or_null(inner: Check) -> Check:
    return lambda value: None if value is None else inner(value)
