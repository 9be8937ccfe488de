"""All of Billhook's SQL names the schemas of what it calls, and casts what operators of JSON take:
what `tests/hostile` finds by running it, this finds where nothing runs it (decision 10)."""

from __future__ import annotations

import re

import pytest

from books import Books
from hostile_objects import sql_texts

# Statements that run under `SET search_path = pg_catalog, pg_temp`.
FIXED_PATH = re.compile(r"SET search_path = pg_catalog, pg_temp")
# What the grammar resolves by itself; `unnest` with several arrays, and aggregates of everything.
BY_GRAMMAR = re.compile(
    r"(coalesce|greatest|least|nullif|extract|overlay|substring)\b|unnest\([^()]*,|\w+\(\*\)|\w+\(\)"
)


def exposed(text: str) -> str:
    """The text without those functions that fix their search_path."""
    parts = re.split(r"(?=CREATE OR REPLACE FUNCTION)", text)
    return "".join(part for part in parts if not FIXED_PATH.search(part))


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    return [(name, exposed(text)) for name, text in sql_texts()]


def test_every_call_names_its_schema(books: Books, texts: list[tuple[str, str]]) -> None:
    known = {
        row["proname"] for row in books.rows("SELECT DISTINCT proname FROM pg_catalog.pg_proc")
    }
    found = [
        f"{name}: {call}"
        for name, text in texts
        for call in re.findall(r"(?<![\w.\"])(?:[a-z_][a-z_0-9]*)\([^()]*\)?", text)
        if call.partition("(")[0] in known and not BY_GRAMMAR.match(call)
    ]
    assert not found, "\n".join(found)


def test_operators_of_json_are_given_exact_types(texts: list[tuple[str, str]]) -> None:
    uncast = re.compile(r"(?:->>|->|#>>|#>|(?<=\s)\?[|&]?|(?<=\s)-)\s*'[^']*'(?!::)")
    found = [f"{name}: {use}" for name, text in texts for use in uncast.findall(text)]
    assert not found, "\n".join(found)


def test_parameters_are_of_types_that_asyncpg_knows(texts: list[tuple[str, str]]) -> None:
    """Of other arrays it asks PostgreSQL, in SQL of its own that names no schemas."""
    arrays = re.compile(r"(?:\$\d+|\})::(?!text\[\])\w+\[\]")
    found = [f"{name}: {use}" for name, text in texts for use in arrays.findall(text)]
    assert not found, "\n".join(found)


def test_names_of_objects_are_compared_as_oids_or_text(texts: list[tuple[str, str]]) -> None:
    """pg_catalog has no operators that take regclass and the like."""
    uncast = re.compile(r"\S+::reg\w+\b(?!::(?:oid|text)\b)")
    returned = re.compile(r"\bto_reg\w+\([^()]*\)(?!::(?:oid|text)\b| IS (?:NOT )?NULL\b)")
    found = [
        f"{name}: {use}"
        for name, text in texts
        for use in (*uncast.findall(text), *returned.findall(text))
    ]
    assert not found, "\n".join(found)


def test_tables_of_the_catalog_are_named_with_their_schema(texts: list[tuple[str, str]]) -> None:
    unqualified = re.compile(r"\b(?:FROM|JOIN)\s+pg_(?!catalog\.|temp\.)\w+")
    found = [f"{name}: {use}" for name, text in texts for use in unqualified.findall(text)]
    assert not found, "\n".join(found)
