"""The tables of the schema `payments`, from a migrated database and tables.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from generate.markdown import code, table

_COLUMNS = """
SELECT c.relname AS table, a.attname AS name, a.attnotnull AS required,
    format_type(a.atttypid, a.atttypmod) AS type,
    (SELECT string_agg(pg_get_constraintdef(k.oid), ' ') FROM pg_constraint k
     WHERE k.conrelid = c.oid AND k.contype = 'c' AND k.conkey = ARRAY[a.attnum]) AS checks
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'payments'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
  AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""
_TYPES = {"timestamp with time zone": "timestamptz"}


@dataclass(frozen=True, slots=True)
class Column:
    """A column.

    Attributes:
        values: the only values that it accepts, if a check lists them.
    """

    name: str
    type: str
    required: bool
    values: list[str]


@dataclass(frozen=True, slots=True)
class Table:
    name: str
    columns: list[Column]


async def read(dsn: str) -> list[Table]:
    """The tables of a migrated database."""
    connection = await asyncpg.connect(dsn)
    try:
        rows = await connection.fetch(_COLUMNS)
    finally:
        await connection.close()
    tables: dict[str, Table] = {}
    for row in rows:
        columns = tables.setdefault(row["table"], Table(row["table"], [])).columns
        columns.append(
            Column(
                row["name"],
                _TYPES.get(row["type"], row["type"]),
                row["required"],
                _values(row["checks"] or ""),
            )
        )
    return list(tables.values())


def _values(checks: str) -> list[str]:
    listed = re.search(r"ANY \(\(?ARRAY\[(.*?)\]", checks)
    return re.findall(r"'([^']*)'", listed[1]) if listed else []


def meanings() -> dict[str, Any]:
    """tables.toml."""
    return tomllib.loads((Path(__file__).parent / "tables.toml").read_text())


def write(schema: list[Table]) -> str:
    """Each table with its columns.

    Raises:
        KeyError: tables.toml does not describe a table or column.
    """
    found = meanings()
    return "\n\n".join(_section(each, found) for each in schema)


def _section(found: Table, texts: dict[str, Any]) -> str:
    own = texts["tables"][found.name]
    columns = texts["columns"] | own.get("columns", {})
    rows = [
        (code(each.name), each.type + ("" if each.required else ", null"), _meaning(each, columns))
        for each in found.columns
    ]
    return "\n\n".join(
        [
            f"## payments.{found.name}",
            own["meaning"],
            table(("Column", "Type", "Meaning"), rows),
        ]
    )


def _meaning(column: Column, texts: dict[str, str]) -> str:
    text = texts[column.name]
    if column.values:
        text += f" One of {', '.join(map(code, column.values))}."
    return text
