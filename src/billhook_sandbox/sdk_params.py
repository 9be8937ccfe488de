"""The form of an operation's parameters, read from the SDK's `…Params` classes.

It goes before the form that the operation itself has: that one knows what the sandbox reads, this
one what Stripe takes. So what Stripe would refuse is refused in Stripe's words, for every route.
"""

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from billhook_sandbox.errors import InvalidRequest, NotSupported
from billhook_sandbox.params import Form, ParamType, array, boolean, decimal, integer, one_of
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
    read_text,
)

MAX_LISTED_VALUES = 60
"""Longer lists (events, versions) are left to the operation, whose message is shorter."""


def read_params(
    operation: SdkOperation | None, form: Form, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of an operation's parameters, when Stripe and the sandbox both take them."""
    if operation is None or operation.params is None:
        return form.read(given)
    taken = kind_of(read_text(operation.module, f'"{operation.params}"'))
    # `expand` may go with every request, also where no class lists it.
    taken({name: value for name, value in given.items() if name != "expand"}, "")
    try:
        return form.read(given)
    except InvalidRequest as error:
        if error.code != "parameter_unknown":
            raise
        raise NotSupported(
            f"{error.param} is a parameter that Stripe takes in {operation.method} "
            f"{operation.path}, but the sandbox does not have it yet ({operation.name}).",
            code="sandbox_not_built",
            param=error.param,
        ) from error


@cache
def kind_of(type_: Type) -> ParamType:
    match type_:
        case Scalar(name):
            return SCALARS[name]
        case OneOf(values):
            return listed(values)
        case ListOf(item) | PageOf(item):
            return array(kind_of(item))
        case MapOf(item):
            return map_of(kind_of(item))
        case Union(options):
            return any_of(options)
        case Record():
            return record_of(type_)


def text(raw: Any, param: str) -> Any:
    """Also an empty one: whether it may be unset, the operation knows."""
    if not isinstance(raw, str):
        raise InvalidRequest("Invalid string: must be a string", param=param)
    return raw


def number(raw: Any, param: str) -> Any:
    if isinstance(raw, str) and re.fullmatch(r"-?\d+(\.\d+)?", raw):
        return raw
    raise InvalidRequest(f"Invalid number: {raw}", param=param)


SCALARS: dict[str, ParamType] = {
    "Any": lambda raw, param: raw,
    "Decimal": decimal,
    "bool": boolean,
    "float": number,
    "int": integer,
    "str": text,
}


def listed(values: tuple[object, ...]) -> ParamType:
    if len(values) > MAX_LISTED_VALUES:
        return text
    return one_of(*(str(value).lower() if value is True else str(value) for value in values))


def map_of(item: ParamType) -> ParamType:
    def read(raw: Any, param: str) -> Any:
        if raw == "":
            return {}
        if not isinstance(raw, dict):
            raise InvalidRequest("Invalid hash", param=param)
        return {key: item(value, f"{param}[{key}]") for key, value in raw.items()}

    return read


def any_of(options: tuple[Type, ...]) -> ParamType:
    """What was sent is judged by the types of its sort: a map by classes, a word by scalars."""
    clearable = OneOf(("",)) in options
    named = [option for option in options if option != OneOf(("",))]
    flat = [kind_of(option) for option in named if isinstance(option, Scalar | OneOf)]
    deep = [kind_of(option) for option in named if not isinstance(option, Scalar | OneOf)]

    def read(raw: Any, param: str) -> Any:
        if raw == "" and clearable:
            return None
        validated = (deep or flat) if isinstance(raw, dict) else (flat or deep)
        for kind in validated[:-1]:
            try:
                return kind(raw, param)
            except InvalidRequest:
                continue
        return validated[-1](raw, param)

    return read


def record_of(record: Record) -> ParamType:
    """Read at its first use, as classes may refer to each other."""
    forms: list[Form] = []

    def read(raw: Any, param: str) -> Any:
        if not forms:
            known = fields(record)
            required = tuple(name for name, field in known.items() if field.required)
            kinds = {name: kind_of(field.type) for name, field in known.items()}
            forms.append(Form(kinds, required))
        return forms[0](raw, param)

    return read
