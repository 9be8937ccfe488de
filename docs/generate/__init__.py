"""Writes the generated parts of docs/reference/: `make reference`.

A page says where they go, between two comments::

    <!-- generated: settings HOST PORT -->
    <!-- /generated -->

tests/docs/test_reference.py fails if a page differs from what would be written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from generate import commands, errors, routes, settings, tables
from generate.tables import Table

REFERENCE = Path(__file__).parents[1] / "reference"

_PART = re.compile(
    r"(?P<start><!-- generated: (?P<name>\w+)(?P<arguments>[^>]*?) -->\n).*?"
    r"(?P<end><!-- /generated -->)",
    re.DOTALL,
)


def pages() -> list[Path]:
    """The pages with generated parts."""
    return [page for page in sorted(REFERENCE.glob("*.md")) if _PART.search(page.read_text())]


def rendered(page: Path, schema: list[Table]) -> str:
    """The text of a page, with its parts written anew.

    Args:
        schema: the tables of `payments`, from `tables.read`.
    """
    writers: dict[str, Callable[[list[str]], str]] = {
        "settings": settings.write,
        "commands": lambda _: commands.write(),
        "errors": lambda _: errors.write(),
        "routes": lambda _: routes.write(),
        "models": lambda _: routes.write_models(),
        "tables": lambda _: tables.write(schema),
    }

    def part(found: re.Match[str]) -> str:
        text = writers[found["name"]](found["arguments"].split())
        return f"{found['start']}\n{text.strip()}\n\n{found['end']}"

    return _PART.sub(part, page.read_text())
