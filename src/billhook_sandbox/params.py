"""Stripe's form encoding, and the types of request parameters.

`a[b][0][c]=v` is decoded to nested dicts of strings. The `Form` of an operation then converts each
parameter to its type and rejects unknown parameters (stripe-facts 40).
"""

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

from billhook_sandbox.errors import InvalidRequest

ParamType = Callable[[Any, str], Any]
"""Converts a decoded parameter (a string or a dict), given with its name, to its value."""


def decode(encoded: str) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in parse_qsl(encoded, keep_blank_values=True, max_num_fields=5000):
        head, bracket, rest = name.partition("[")
        path = [head, *rest.removesuffix("]").split("][")] if bracket else [head]
        node = tree
        for part in path[:-1]:
            step = node.setdefault(part or str(len(node)), {})
            if not isinstance(step, dict):
                raise InvalidRequest("Invalid request: a parameter is both a value and a map.")
            node = step
        node[path[-1] or str(len(node))] = value
    return tree


def text(raw: Any, param: str) -> str:
    if not isinstance(raw, str):
        raise InvalidRequest("Invalid string: must be a string", param=param)
    if raw == "":
        raise InvalidRequest(
            f"You passed an empty string for '{param}'. We assume empty values are an attempt to "
            f"unset a parameter; however '{param}' cannot be unset. You should remove '{param}' "
            "from your request or supply a non-empty value.",
            code="parameter_invalid_empty",
            param=param,
        )
    return raw


def integer(raw: Any, param: str) -> int:
    if isinstance(raw, str) and re.fullmatch(r"-?\d{1,15}", raw):
        return int(raw)
    raise InvalidRequest(f"Invalid integer: {raw}", code="parameter_invalid_integer", param=param)


def at_least(smallest: int) -> ParamType:
    def read(raw: Any, param: str) -> int:
        value = integer(raw, param)
        if value < smallest:
            message = f"This value must be greater than or equal to {smallest}."
            raise InvalidRequest(message, code="parameter_invalid_integer", param=param)
        return value

    return read


def boolean(raw: Any, param: str) -> bool:
    if raw in ("true", "false"):
        return bool(raw == "true")
    raise InvalidRequest(f"Invalid boolean: {raw}", param=param)


def one_of(*values: str) -> ParamType:
    def read(raw: Any, param: str) -> str:
        if raw in values:
            return str(raw)
        names = ", ".join(values[:-1]) + f", or {values[-1]}" if values[1:] else values[0]
        raise InvalidRequest(f"Invalid {param}: must be one of {names}", param=param)

    return read


def at_most(length: int) -> ParamType:
    """A text of at most so many characters."""

    def read(raw: Any, param: str) -> str:
        value = text(raw, param)
        if len(value) > length:
            message = f"Invalid string: {value[:20]}...; must be at most {length} characters"
            raise InvalidRequest(message, param=param)
        return value

    return read


def clearable(type_: ParamType) -> ParamType:
    """An empty string unsets the parameter."""
    return lambda raw, param: None if raw == "" else type_(raw, param)


def array(type_: ParamType) -> ParamType:
    def read(raw: Any, param: str) -> list[Any]:
        if raw == "":
            return []
        if not isinstance(raw, dict) or not all(key.isdigit() for key in raw):
            raise InvalidRequest("Invalid array", param=param)
        return [type_(raw[key], f"{param}[{key}]") for key in sorted(raw, key=int)]

    return read


def url(raw: Any, param: str) -> str:
    value = text(raw, param)
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s/]", value):
        raise InvalidRequest("Not a valid URL", code="url_invalid", param=param)
    return value


def email(raw: Any, param: str) -> str:
    value = text(raw, param)
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", value):
        raise InvalidRequest(f"Invalid email address: {value}", code="email_invalid", param=param)
    return value


def currency(raw: Any, param: str) -> str:
    value = text(raw, param).lower()
    if not re.fullmatch(r"[a-z]{3}", value):
        raise InvalidRequest(f"Invalid currency: {value}", param=param)
    return value


def decimal(raw: Any, param: str) -> str:
    if isinstance(raw, str) and re.fullmatch(r"-?\d+(\.\d{1,12})?", raw):
        return raw
    raise InvalidRequest(f"Invalid decimal: {raw}", param=param)


def metadata(raw: Any, param: str) -> dict[str, str] | None:
    """None removes all metadata; an empty value removes its key."""
    if raw == "":
        return None
    if not isinstance(raw, dict) or not all(isinstance(value, str) for value in raw.values()):
        raise InvalidRequest("Invalid hash", param=param)
    for key, value in raw.items():
        if len(key) > 40:
            raise InvalidRequest("Metadata keys can be up to 40 characters long.", param=param)
        if len(value) > 500:
            message = "Metadata values can have up to 500 characters."
            raise InvalidRequest(message, param=f"{param}[{key}]")
    return raw


def merge_metadata(old: Mapping[str, str], given: Mapping[str, str] | None) -> dict[str, str]:
    merged = {k: v for k, v in {**old, **given}.items() if v != ""} if given is not None else {}
    if len(merged) > 50:
        raise InvalidRequest("Metadata can have up to 50 keys.", param="metadata")
    return merged


def changed_values(
    obj: Mapping[str, Any], given: Mapping[str, Any], *left_out: str
) -> dict[str, Any]:
    """The values that an update changes: `given` without `expand`, with merged metadata."""
    values = {key: value for key, value in given.items() if key not in ("expand", *left_out)}
    if "metadata" in values:
        values["metadata"] = merge_metadata(obj["metadata"], values["metadata"])
    return values


class Form:
    """The parameters of an operation, or of a nested hash."""

    def __init__(self, types: Mapping[str, ParamType], required: tuple[str, ...] = ()) -> None:
        self.types = types
        self.required = required

    def read(self, raw: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
        values = {}
        for key, value in raw.items():
            param = f"{prefix}[{key}]" if prefix else key
            if key not in self.types:
                message = f"Received unknown parameter: {param}"
                raise InvalidRequest(message, code="parameter_unknown", param=param)
            values[key] = self.types[key](value, param)
        for key in self.required:
            if key not in values:
                param = f"{prefix}[{key}]" if prefix else key
                message = f"Missing required param: {param}."
                raise InvalidRequest(message, code="parameter_missing", param=param)
        return values

    def __call__(self, raw: Any, param: str) -> dict[str, Any]:
        """Makes a form the type of a nested parameter."""
        if not isinstance(raw, dict):
            raise InvalidRequest("Invalid hash", param=param)
        return self.read(raw, param)


EXPAND = {"expand": array(text)}
RETRIEVE = Form(EXPAND)
RANGE = Form({"gt": integer, "gte": integer, "lt": integer, "lte": integer})


def timestamp_or_range(raw: Any, param: str) -> dict[str, int]:
    if isinstance(raw, dict):
        return RANGE(raw, param)
    timestamp = integer(raw, param)
    return {"gte": timestamp, "lte": timestamp}


def page_limit(raw: Any, param: str) -> int:
    limit = integer(raw, param)
    if not 1 <= limit <= 100:
        message = "This value must be between 1 and 100."
        raise InvalidRequest(message, code="parameter_invalid_integer", param=param)
    return limit


def list_form(*, by_created: bool = True, **filters: ParamType) -> Form:
    paging = {"limit": page_limit, "starting_after": text, "ending_before": text}
    created = {"created": timestamp_or_range} if by_created else {}
    return Form({**paging, **EXPAND, **created, **filters})


ADDRESS = Form(
    {
        part: clearable(text)
        for part in ("line1", "line2", "city", "state", "postal_code", "country")
    }
)
