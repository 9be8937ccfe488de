"""The parameters that Stripe accepts, read from the SDK's `…Params` classes.

They are checked before the operation's own form, which lists what the sandbox supports. So on every
route, what Stripe would reject is rejected with Stripe's message.
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
"""Longer lists (events, versions) are checked by the operation, whose message is shorter."""


def read_params(
    operation: SdkOperation | None, form: Form, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The values of an operation's parameters, if both Stripe and the sandbox accept them."""
    if operation is None or operation.params is None:
        return form.read(given)
    accepted = type_of(read_text(operation.module, f'"{operation.params}"'))
    # Every request accepts `expand`, even if its class does not list it.
    accepted({name: value for name, value in given.items() if name != "expand"}, "")
    try:
        return form.read(given)
    except InvalidRequest as error:
        if error.code != "parameter_unknown":
            raise
        raise NotSupported(
            f"Stripe accepts the parameter {error.param} in {operation.method} {operation.path}, "
            f"but the sandbox does not support it yet ({operation.name}).",
            code="sandbox_not_built",
            param=error.param,
        ) from error


@cache
def type_of(type_: Type) -> ParamType:
    match type_:
        case Scalar(name):
            return SCALARS[name]
        case OneOf(values):
            return enum_of(values)
        case ListOf(item) | PageOf(item):
            return array(type_of(item))
        case MapOf(item):
            return map_of(type_of(item))
        case Union(options):
            return any_of(options)
        case Record():
            return record_of(type_)


def text(raw: Any, param: str) -> Any:
    """Accepts empty text: the operation's own form knows whether it can be unset."""
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


def enum_of(values: tuple[object, ...]) -> ParamType:
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
    """Tries the types that match the shape of the value: classes for a map, scalars for text."""
    clearable = OneOf(("",)) in options
    types = [option for option in options if option != OneOf(("",))]
    flat = [type_of(option) for option in types if isinstance(option, Scalar | OneOf)]
    deep = [type_of(option) for option in types if not isinstance(option, Scalar | OneOf)]

    def read(raw: Any, param: str) -> Any:
        if raw == "" and clearable:
            return None
        candidates = (deep or flat) if isinstance(raw, dict) else (flat or deep)
        for candidate in candidates[:-1]:
            try:
                return candidate(raw, param)
            except InvalidRequest:
                continue
        return candidates[-1](raw, param)

    return read


def record_of(record: Record) -> ParamType:
    """Reads the class on first use, because classes may refer to each other."""
    forms: list[Form] = []

    def read(raw: Any, param: str) -> Any:
        if not forms:
            declared = fields(record)
            required = tuple(name for name, field in declared.items() if field.required)
            types = {name: type_of(field.type) for name, field in declared.items()}
            forms.append(Form(types, required))
        return forms[0](raw, param)

    return read
