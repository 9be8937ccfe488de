"""The prose check of `make lint`: proselint, and the phrases of words.toml.

It reads what people read: Markdown, templates, comments, docstrings, and every string of the code,
which includes messages and help texts.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

from proselint.checks import __register__ as checks_of_proselint
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, CheckResult
from proselint.tools import LintFile

from prose.reading import prose_of

ROOT = Path(__file__).parents[2]
WORDS = Path(__file__).with_name("words.toml")

_READ = (
    "*.md",
    *(f"{folder}/**" for folder in ("bench", "deploy", "docs", "src", ".ci")),
    *("Dockerfile", "Makefile", "compose.yaml", "mkdocs.yml", "pyproject.toml"),
    *(":!*.css", ":!*.json", ":!*.lock", ":!*.png", ":!*.svg", ":!tests/**"),
    *(":!docs/prose/words.toml", ":!src/billhook/http/swagger_ui/**"),
    ":!src/billhook/dashboard/static/fonts/**",
    ":!src/billhook/dashboard/static/uplot/**",
)

_CHECKS = {
    "annotations": True,
    "archaism": True,
    "billhook": True,
    "cliches": True,
    "hedging": True,
    "malapropisms": True,
    "misc.preferred_forms": False,  # the font "sans-serif"
    "misc": True,
    "mixed_metaphors": True,
    "mondegreens": True,
    "needless_variants": True,
    "nonwords": True,
    "redundancy": True,
    "skunked_terms": True,
}


def files() -> list[Path]:
    """The files of the repository that people read."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *_READ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [path for name in listed.split("\0") if name and (path := ROOT / name).is_file()]


def findings(path: Path, text: str) -> Iterator[str]:
    """What to change in this text of a file, each as `file:line:column: what`."""
    if not text:
        return
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    source = LintFile(str(path), prose_of(path.suffix, text))
    for found in source.lint({"max_errors": 1000, "checks": _CHECKS}):
        line, column = found.pos
        yield f"{shown}:{line}:{column}: {found.check_result.message}"


class _Words:
    """The phrases of words.toml, searched for as one expression, which takes a 20th of the time."""

    def __init__(self, instead: dict[str, str]) -> None:
        spaced = {phrase.replace(" ", r"\s+"): to for phrase, to in instead.items()}
        self._any = rf"\b({'|'.join(f'({each})' for each in spaced)})\b"
        self._each = [(re.compile(each, re.IGNORECASE), to) for each, to in spaced.items()]

    def __call__(self, text: str, check: Check) -> Iterator[CheckResult]:
        for found in check.engine.finditer(self._any, text):
            phrase = found.group(0)
            to = next(to for each, to in self._each if each.fullmatch(phrase))
            message = f"“{' '.join(phrase.split())}”: write “{to}”."
            yield CheckResult(check.path, message, found.span(), to)


def _register() -> None:
    own = Check(
        check_type=_Words(tomllib.loads(WORDS.read_text())["instead"]),
        path="billhook.words",
        flags=CheckFlags(allow_quotes=True),
    )
    CheckRegistry().register_many((*checks_of_proselint, own))


_register()
