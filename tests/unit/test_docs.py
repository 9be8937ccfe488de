"""What code cites and pages link to is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def sources() -> list[Path]:
    return [path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".sql")]


def test_every_fact_that_the_code_cites_is_in_the_docs() -> None:
    facts = set(
        re.findall(
            r"^(\d+)\. ", (ROOT / "docs/reference/stripe-facts.md").read_text(), re.MULTILINE
        )
    )
    cited = {
        number
        for path in sources()
        for number in re.findall(r"stripe-facts (\d+)", path.read_text())
    }
    assert cited
    assert cited <= facts


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    code = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!http)([^)#]+)", code.sub("", page.read_text()))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_every_page_is_in_the_menu_of_the_site() -> None:
    """`make docs` also fails, but is not part of `make test`."""
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert set(listed) == pages
    assert len(listed) == len(pages)


def test_each_fact_has_a_test_named_after_it_or_a_line_that_says_why_not() -> None:
    """`test_fact_7_…`, `test_facts_14_15_…`, or a row of the sandbox's differences."""
    page = (ROOT / "docs/reference/stripe-facts.md").read_text()
    facts = {int(number) for number in re.findall(r"^(\d+)\. ", page, re.MULTILINE)}
    tested = {
        int(number)
        for path in (ROOT / "tests/sandbox").glob("test_*.py")
        for numbers in re.findall(r"def test_facts?_((?:\d+_)+)", path.read_text())
        for number in numbers.strip("_").split("_")
    }
    differing: set[int] = set()
    for row in (ROOT / "docs/reference/sandbox-facts.md").read_text().splitlines():
        cells = row.split("|")
        for first, last in re.findall(r"(\d+)(?:–(\d+))?", cells[2] if len(cells) > 3 else ""):
            differing |= set(range(int(first), int(last or first) + 1))
    assert facts == set(range(1, 51))
    assert tested <= facts
    assert facts - tested - differing == set()
    assert len(tested) >= 38, "rows are for what differs, not for what nobody tested"
