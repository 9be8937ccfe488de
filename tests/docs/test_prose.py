"""The prose check of `make lint` finds what it is for, wherever people read it, and no code."""

from __future__ import annotations

from pathlib import Path

import pytest

from prose import ROOT, files, findings


def found(name: str, text: str) -> list[str]:
    return [each.partition(" ")[0] for each in findings(Path(name), text)]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "# Sync\n\nThe rows are made anew.\n"),
        ("page.md", "- The rows are\n  made anew.\n"),
        ("page.html", "<p>\n  {{ count }}\n<b>Check and mend</b></p>\n"),
        ("page.html", '\n\n<input placeholder="Numbers to try">\n'),
        ("module.py", 'X = 1\n\n"""Each request is answered 503."""\n'),
        ("module.py", "def f():\n    # The rows are\n    # made anew.\n"),
        ("module.py", "raise Error(\n    f'{name} is nobody\\'s: '\n    f'{name} is put away')\n"),
        ("query.sql", "SELECT 1;\n\n-- Which rows are in doubt.\n"),
        ("query.sql", "SELECT 1;\n-- The rows are made\n-- anew.\n"),
        ("script.js", "let x;\n\n// Show the chosen.\n"),
        ("Makefile", "all:\n\n# What came in and went back.\n"),
        ("page.md", "# Proselint\n\nThe rows are very unique of of.\n"),
        ("page.md", "# Proselint\n\nIt happens at this point in time.\n"),
    ],
)
def test_bad_prose_is_found(name: str, text: str) -> None:
    lines = {each.split(":")[1] for each in found(name, text)}
    assert lines
    assert lines <= {"2", "3"}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "Run `mend` again.\n\n```sh\nmend the mended\n```\n"),
        ("page.md", "See [the page](mend.md).\n"),
        ("module.py", "mend = anew(lambda: mended)\n"),
        ("module.py", "in_doubt = 1  # rows\nput = 2  # away\n"),
        ("page.html", '<p class="mend">{% if anew %}{{ mended }}{% endif %}</p>\n'),
        ("empty.py", ""),
    ],
)
def test_code_is_not_read(name: str, text: str) -> None:
    assert found(name, text) == []


def test_it_reads_what_people_read() -> None:
    read = {str(path.relative_to(ROOT)) for path in files()}
    assert {
        ".ci/run",
        "CHANGELOG.md",
        "Makefile",
        "README.md",
        "bench/sync.py",
        "deploy/nginx.conf",
        "docs/index.md",
        "src/billhook/cli/sync.py",
        "src/billhook/dashboard/templates/overview.html",
        "src/billhook/demo/static/shop.js",
        "src/billhook/postgres/functions/load.sql",
        "src/billhook_sandbox/pages/templates/checkout.html",
    } <= read


def test_strings_with_code_between_them_are_separate() -> None:
    """A phrase does not continue after code."""
    assert found("module.py", "f('It is put', away, 'away')\n") == []
