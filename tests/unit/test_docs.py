"""What code cites and pages link to is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


def sources() -> list[Path]:
    return [path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".sql")]


def test_every_fact_that_the_code_cites_is_in_the_docs() -> None:
    facts = set(re.findall(r"^(\d+)\. ", (ROOT / "docs/stripe-facts.md").read_text(), re.MULTILINE))
    cited = {
        number
        for path in sources()
        for number in re.findall(r"stripe-facts (\d+)", path.read_text())
    }
    assert cited
    assert cited <= facts


def test_every_link_between_pages_leads_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text())
        if not (page.parent / target).exists()
    ]
    assert broken == []
