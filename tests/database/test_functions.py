"""The SQL functions that are made from the declarations of kinds."""

from __future__ import annotations

import pytest

from billhook.kinds import KINDS
from billhook.mirror.rebuild import fresh
from billhook.postgres.migrate import function_files
from billhook.rows import functions, tables
from books import Books

STORED_AS = {
    "timestamptz": "timestamp with time zone",
    "delay": "timestamp with time zone",
    "document": "jsonb",
}


def test_the_generated_functions_are_those_of_the_declarations() -> None:
    """Make them so:

    python -m billhook.rows.functions > src/billhook/postgres/functions/generated.sql
    """
    (generated,) = (file for file in function_files() if file.name == "generated")
    assert generated.text == functions.functions()


@pytest.mark.parametrize("table", tables.TABLES, ids=lambda table: table.label)
def test_every_declared_column_has_its_type_in_the_schema(
    books: Books, table: tables.Table
) -> None:
    found = {
        row["name"]: row["type"]
        for row in books.rows(
            """
            SELECT attname::text AS name, format_type(atttypid, atttypmod) AS type
            FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0
            """,
            table.name.removeprefix(":"),
        )
    }
    for name, type in (table.key | table.columns).items():
        expected = STORED_AS.get(type, type)
        assert found[name] == (expected or "text"), name


@pytest.mark.parametrize("table", fresh.TABLES)
def test_a_rebuild_knows_all_columns_of_ours(books: Books, table: str) -> None:
    """Others are the app's, and are left out of the tables that it fills."""
    columns = """
        SELECT array_agg(attname::text) AS names FROM pg_attribute
        WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped
    """
    found = set(books.row(columns, table)["names"])
    assert found - fresh.OWN_COLUMNS[table] == set()


def test_every_kind_says_what_changes_and_lists_it() -> None:
    for name, kind in KINDS.items():
        assert kind.path.startswith("/v1/"), name
        assert kind.changed_by or kind.has_list, name
        assert kind.deleted_by or not kind.keeps_deleted, name
