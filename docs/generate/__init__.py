"""Writes the generated parts of docs/: `make reference`.

A page says where they go, between two comments::

    <!-- generated: settings HOST PORT -->
    <!-- /generated -->

tests/docs/test_reference.py fails if a page differs from what would be written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from generate import commands, errors, events, routes, settings, tables
from generate.tables import Table

DOCS = Path(__file__).parents[1]
REFERENCE = DOCS / "reference"

_PART = re.compile(
    r"(?P<start><!-- generated: (?P<name>\w+)(?P<arguments>[^>]*?) -->\n).*?"
    r"(?P<end><!-- /generated -->)",
    re.DOTALL,
)


def pages() -> list[Path]:
    """The pages with generated parts."""
    return [page for page in sorted(DOCS.rglob("*.md")) if _PART.search(page.read_text())]


def rendered(page: Path, schema: list[Table]) -> str:
    """The text of a page, with its parts rewritten.

    Args:
        schema: the tables of `payments`, from `tables.read`.
    """
    writers: dict[str, Callable[[list[str]], str]] = {
        "settings": settings.write,
        "commands": lambda _: commands.write(),
        "errors": lambda _: errors.write(),
        "events": lambda _: events.write(),
        "routes": lambda _: routes.write(),
        "models": lambda _: routes.write_models(),
        "tables": lambda _: tables.write(schema),
        "file": lambda arguments: _file(*arguments),
    }

    def part(found: re.Match[str]) -> str:
        text = writers[found["name"]](found["arguments"].split())
        return f"{found['start']}\n{text.strip()}\n\n{found['end']}"

    return _PART.sub(part, page.read_text())


def _file(name: str, language: str) -> str:
    """A file of the repository as a code block."""
    return f"```{language}\n{(DOCS.parent / name).read_text().strip()}\n```"
