"""What the README shows can be pasted."""

from __future__ import annotations

from books import Books
from readme import sql_blocks


def test_the_sql_of_the_readme_runs_as_it_stands(books: Books) -> None:
    blocks = sql_blocks()
    assert len(blocks) == 3
    for block in blocks:
        books.execute(block)
    policies = books.rows(
        "SELECT DISTINCT tablename FROM pg_policies WHERE schemaname = 'payments'"
    )
    assert len(policies) == 2
