"""The settings, from `billhook.settings.Settings`."""

from __future__ import annotations

from typing import Any

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from billhook.settings import Settings
from generate.markdown import code, table


def write(names: list[str]) -> str:
    """A table of the settings named."""
    fields = {field.alias: field for field in Settings.model_fields.values()}
    return table(
        ("Name", "Default", "Meaning"),
        [(code(name), _default(fields[name]), _meaning(fields[name])) for name in names],
    )


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default: Any = field.default
    if default is None:
        return ""
    return code(str(default).lower() if isinstance(default, bool) else str(default))


def _meaning(field: FieldInfo) -> str:
    lowest = next((each.ge for each in field.metadata if isinstance(each, Ge)), None)
    highest = next((each.le for each in field.metadata if isinstance(each, Le)), None)
    limits = ""
    if highest is not None:
        limits = f" {lowest} to {highest}."
    elif lowest is not None:
        limits = f" {lowest} or more."
    said = limits.strip(" .") in str(field.description)  # with what the limit means
    return str(field.description) if said else f"{field.description}{limits}"
