"""The commands that `billhook doctor` suggests are about the environment of the finding. Their
default is test: in a live environment they would do nothing, or the wrong thing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import billhook.doctor
from billhook.cli import app

SOURCES = sorted(Path(billhook.doctor.__file__).parent.glob("*.py"))


def texts(source: Path) -> Iterator[str]:
    """The strings of a module, with `{}` for what is filled in."""
    tree = ast.parse(source.read_text())
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
             for part in node.values}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and id(node) not in parts:
            yield str(node.value)


def takes_environment(words: list[str]) -> bool:
    command: Any = get_command(app)
    for word in words:
        if (found := getattr(command, "commands", {}).get(word)) is None:
            break
        command = found
    return any("--environment" in each.opts for each in command.params)


@pytest.mark.parametrize("source", SOURCES, ids=lambda each: each.stem)
def test_suggested_commands_name_the_environment(source: Path) -> None:
    silent = [
        command
        for text in texts(source)
        if not text.startswith("`billhook")  # a docstring
        for command in re.findall(r"billhook [a-z](?:(?!billhook ).)*", text, re.DOTALL)
        if takes_environment(command.split()[1:])
        and "--environment" not in command
        and not command.startswith("billhook keys create")  # for both, unless it says otherwise
    ]
    assert silent == []
