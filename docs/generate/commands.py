"""The command line, from the commands and options that typer has."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from billhook.cli import app
from generate.markdown import code, table


def write() -> str:
    return "\n\n".join(_section(path, command) for path, command in _leaves(get_command(app), ()))


def _leaves(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if children is None:
        yield path, command
        return
    if command.invoke_without_command and path:
        yield path, command
    for name, child in children.items():
        yield from _leaves(child, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> str:
    shown = [each for each in command.params if not each.hidden]
    arguments = [each for each in shown if each.param_type_name == "argument"]
    options = [each for each in shown if each.param_type_name == "option"]
    usage = " ".join(["billhook", *path, *map(_placeholder, arguments)])
    parts = [f"### billhook {' '.join(path)}", command.help, f"```text\n{usage} [options]\n```"]
    if not options:
        parts[-1] = f"```text\n{usage}\n```"
    if shown:
        rows = [(code(_name(each)), _meaning(each)) for each in (*arguments, *options)]
        parts.append(table(("Argument or option", "Meaning"), rows))
    if command.epilog:
        before, _, example = command.epilog.partition(": ")
        parts.append(f"{before}: `{example}`")
    return "\n\n".join(parts)


def _placeholder(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return str(name if argument.required else f"[{name}]")


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join((*parameter.opts, *parameter.secondary_opts))
    return names if parameter.is_flag else f"{names} {_value(parameter)}"


def _value(option: Any) -> str:
    choices = getattr(option.type_descriptor.annotation, "__args__", ())
    if choices and all(isinstance(each, str) for each in choices):
        return "|".join(map(str, choices))
    return str(option.metavar or option.name.upper())


def _meaning(parameter: Any) -> str:
    default = parameter.default
    shown = parameter.show_default
    if isinstance(shown, str):
        default = shown
    elif not shown or default in (None, False, [], ()):
        return str(parameter.help or "")
    more = f" Default: {default}." if isinstance(shown, str) else f" Default: `{default}`."
    return f"{parameter.help or ''}{more}"
