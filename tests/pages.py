"""The code blocks of README.md and docs/, so that tests run what readers paste.

A block that no test runs says why in a comment before it: `<!-- not run: it needs Docker -->`.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n\s*)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Block:
    """A code block.

    Attributes:
        page: relative to the repository.
        language: after the three backticks; may be empty.
        reason: why no test runs it, or None.
    """

    page: str
    language: str
    text: str
    reason: str | None


def all_pages() -> list[str]:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    return sorted(str(page.relative_to(ROOT)) for page in pages)


def all_blocks(page: str) -> list[Block]:
    found = _BLOCK.finditer((ROOT / page).read_text())
    return [
        Block(page, each["language"], textwrap.dedent(each["text"]), each["reason"])
        for each in found
    ]


def blocks(page: str, language: str) -> list[str]:
    """The texts of a page's blocks in a language that tests run, in order."""
    return [each.text for each in all_blocks(page) if each.language == language and not each.reason]


def block(page: str, language: str, holding: str) -> str:
    """The only one that contains `holding`."""
    (found,) = (each for each in blocks(page, language) if holding in each)
    return found


APP_PAGES = ("fulfill-orders", "policies")


def app_sql() -> list[str]:
    """The SQL that an app copies: its orders and their trigger, its policies."""
    return [sql for page in APP_PAGES for sql in blocks(f"docs/how-to/{page}.md", "sql")]
