"""docs/reference/cli.md has every command, and each line of it and of the README can be typed."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from typer.main import get_command

from billhook.cli import app
from pages import blocks

PAGES = ("docs/reference/cli.md", "README.md")


def typed() -> list[list[str]]:
    """The arguments of every `billhook …` in the pages' examples."""
    found = [block for page in PAGES for block in blocks(page, "sh")]
    lines = (line.partition("<")[0] for block in found for line in block.splitlines())
    words = (shlex.split(line, comments=True) for line in lines)
    return [each[1:] for each in words if each[:1] == ["billhook"]]


def leaf(arguments: list[str]) -> tuple[Any, tuple[str, ...], list[str]]:
    command: Any = get_command(app)
    path: list[str] = []
    rest = list(arguments)
    while rest and rest[0] in getattr(command, "commands", {}):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
    return command, tuple(path), rest


def leaves(command: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    children = getattr(command, "commands", None)
    if children is None:
        return [path]
    own = [path] if command.invoke_without_command and path else []
    return own + [found for name, each in children.items() for found in leaves(each, (*path, name))]


@pytest.mark.parametrize("arguments", typed(), ids=" ".join)
def test_each_example_can_be_typed(arguments: list[str]) -> None:
    command, path, rest = leaf(arguments)
    assert path or rest == ["--install-completion"]
    # Parses, and checks every option and value, without running anything.
    command.make_context(" ".join(path), rest, resilient_parsing=not path)


def test_every_command_is_shown() -> None:
    shown = {leaf(arguments)[1] for arguments in typed()}
    assert [path for path in leaves(get_command(app)) if path not in shown] == []
