"""Objects that another user of the database puts in Billhook's way.

PostgreSQL finds an unqualified function or operator in all schemas of the `search_path` together,
and prefers the one whose argument types fit exactly, whoever made it. So for each function and each
operator that Billhook's SQL uses, `install` makes overloads in `public` for argument types that
pg_catalog has none for. Each counts that it was called, which no rollback undoes, and raises.

A call is safe if it names its schema, or if pg_catalog has exactly these argument types.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import asyncpg

import billhook

SOURCES = Path(billhook.__file__).parent

# What PostgreSQL's grammar resolves by itself, or what only looks like a call.
_NO_FUNCTIONS = frozenset(["coalesce", "greatest", "least", "nullif", "extract"])
_OF_MIGRATIONS = ("migrate.py", "grants.py", "rights.py", "embedded.py")
_STATEMENT = re.compile(r"\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|FROM|WHERE|ORDER BY|AND)\b")

_SCALARS = (
    *("text", "varchar", "name", '"char"', "smallint", "integer", "bigint", "numeric"),
    *("double precision", "boolean", "jsonb", "uuid", "timestamptz", "date", "interval", "bytea"),
    *("oid", "regclass", "regnamespace", "regprocedure", "tid"),
)
_ARRAYS = tuple(
    f"{each}[]"
    for each in ("text", "name", '"char"', "bigint", "integer", "uuid", "jsonb", "regclass")
)
_POLYMORPHIC = ("anyelement", "anynonarray", "anyarray", "anyenum", "anycompatible", "record")
TYPES = (*_SCALARS, *_ARRAYS, *_POLYMORPHIC)
# What takes the place of each argument of functions with many.
_COMMON = ("text", "jsonb", "integer", "bigint", "text[]", "anyelement")

# Operators, and the types of their results.
_COMPARISONS = ("=", "<>", "<", "<=", ">", ">=")
_OPERATORS = {
    **dict.fromkeys((*_COMPARISONS, "~~", "!~~", "~", "!~", "~*", "~~*"), "boolean"),
    **dict.fromkeys(("?", "?|", "?&", "@>", "<@", "&&"), "boolean"),
    **dict.fromkeys(("->", "#>", "||"), "jsonb"),
    **dict.fromkeys(("->>", "#>>"), "text"),
    **dict.fromkeys(("+", "-", "*", "/", "%", "^"), "numeric"),
}
# JSON's operators have JSON on the left; the others take anything on both sides.
_OF_JSON = ("->", "->>", "#>", "#>>", "?", "?|", "?&")

_PREPARE = """
    CREATE SCHEMA IF NOT EXISTS hostile;
    GRANT USAGE ON SCHEMA hostile TO PUBLIC;
    CREATE SEQUENCE IF NOT EXISTS hostile.calls;
    GRANT ALL ON hostile.calls TO PUBLIC;
    CREATE TABLE IF NOT EXISTS hostile.overloads (
        number bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, what text UNIQUE);
    GRANT SELECT ON hostile.overloads TO PUBLIC;
    GRANT CREATE ON SCHEMA public TO PUBLIC;
"""
_MAKE = """
    CREATE OR REPLACE FUNCTION hostile.make(name text, lines text, result text) RETURNS void
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $make$
    DECLARE
        types text[] := string_to_array(lines, E'\\n');
        is_operator boolean := name !~ '^\\w';
        called text := format('%s(%s)', name, array_to_string(types, ', '));
        number bigint;
    BEGIN
        IF is_operator
            AND to_regoperator(format('pg_catalog.%s', called)) IS NOT NULL
            OR NOT is_operator AND to_regprocedure(format('pg_catalog.%s', called)) IS NOT NULL THEN
            RETURN;
        END IF;
        INSERT INTO hostile.overloads (what) VALUES (called) ON CONFLICT DO NOTHING
        RETURNING overloads.number INTO number;
        IF number IS NULL THEN
            RETURN;
        END IF;
        EXECUTE format($f$
            CREATE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS $hostile$
            BEGIN
                PERFORM pg_catalog.setval('hostile.calls', %s);
                RAISE EXCEPTION 'hostile: %% ran as %%', %L, current_user;
            END $hostile$ $f$,
            CASE WHEN is_operator THEN 'hostile_' || number ELSE name END,
            array_to_string(types, ', '), result, number, called);
        IF is_operator THEN
            EXECUTE format(
                'CREATE OPERATOR public.%s (FUNCTION = public.%I, LEFTARG = %s, RIGHTARG = %s)',
                name, 'hostile_' || number, types[1], types[2]);
        END IF;
    EXCEPTION WHEN invalid_function_definition OR undefined_object THEN
        RETURN;  -- a polymorphic result without a polymorphic argument, for example
    END $make$
"""
_OUR_TYPES = """
    SELECT DISTINCT pg_catalog.format_type(t.oid, NULL) AS name FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
    WHERE n.nspname IN ('billhook', 'payments', 'system') AND t.typtype IN ('c', 'e', 'd')
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c
                      WHERE c.reltype = t.oid AND c.relkind NOT IN ('r', 'v', 'c'))
    ORDER BY 1
"""


def sql_texts() -> Iterator[tuple[str, str]]:
    """All of Billhook's SQL, without comments: its files, and the strings of its Python that look
    like it; each with the name of its file. Not what runs with a fixed search_path: migrations."""
    for path in sorted(SOURCES.rglob("*.sql")):
        if not {"demo", "schema"} & set(path.parts) or path.name == "adoption.sql":
            yield path.name, re.sub(r"--.*", "", path.read_text())
    for path in sorted(SOURCES.rglob("*.py")):
        if {"demo", "client", "cli", "dev"} & set(path.parts) or path.name in _OF_MIGRATIONS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and _STATEMENT.search(text):
                yield f"{path.parent.name}/{path.name}", re.sub(r"--.*", "", text)


def called_names() -> set[str]:
    """Every function that our SQL calls, by its name alone."""
    found = {
        name
        for _, text in sql_texts()
        for name in re.findall(r"(?<!\w)([a-z_][a-z_0-9]*)\s*\(", text)
    }
    return found - _NO_FUNCTIONS


async def install(dsn: str) -> int:
    """Put the overloads into the database, before or after it is migrated: types of ours have some
    too, once they are there. Returns how many there are."""
    connection = await asyncpg.connect(dsn, server_settings={"search_path": "pg_catalog"})
    try:
        await connection.execute(_PREPARE)
        await connection.execute(_MAKE)
        ours = [row["name"] for row in await connection.fetch(_OUR_TYPES)]
        wanted = [*_operators(ours), *await _functions(connection)]
        for start in range(0, len(wanted), 2000):
            await _create(connection, wanted[start : start + 2000])
        return int(await connection.fetchval("SELECT count(*) FROM hostile.overloads"))
    finally:
        await connection.close()


async def called(dsn: str) -> str | None:
    """Which overload was called last, if any was."""
    connection = await asyncpg.connect(dsn, statement_cache_size=0)
    try:
        found: str | None = await connection.fetchval(
            "SELECT what FROM hostile.overloads, hostile.calls"
            " WHERE number = last_value AND is_called"
        )
        return found
    finally:
        await connection.close()


def _pairs() -> Iterator[tuple[str, str]]:
    """Types of two arguments that some expression may have."""
    yield from product(_SCALARS, _SCALARS)
    for array in _ARRAYS:
        for other in (array, array.removesuffix("[]"), "text", "text[]", "anyarray", "integer"):
            yield array, other
            yield other, array
    for each in _POLYMORPHIC:
        for other in (each, "text", "jsonb", "integer", "bigint", "timestamptz"):
            yield each, other
            yield other, each


def _operators(ours: list[str]) -> Iterator[tuple[str, tuple[str, ...], str]]:
    for name, result in _OPERATORS.items():
        pairs = product(("jsonb", "anyelement"), TYPES) if name in _OF_JSON else _pairs()
        for pair in pairs:
            yield name, pair, result
        if name in _COMPARISONS:
            for each in ours:
                for other in (each, "text", "anyelement"):
                    yield name, (each, other), result
                yield name, (f"{each}[]", f"{each}[]"), result


async def _functions(
    connection: asyncpg.Connection[asyncpg.Record],
) -> list[tuple[str, tuple[str, ...], str]]:
    rows = await connection.fetch(
        """
        SELECT p.proname::text AS name, p.pronargs AS arity,
            CASE WHEN t.typtype = 'p' THEN 'jsonb' ELSE format_type(t.oid, NULL) END AS result,
            ARRAY(SELECT format_type(a, NULL)
                  FROM unnest(p.proargtypes) WITH ORDINALITY x(a, n) ORDER BY n) AS types
        FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_type t ON t.oid = p.prorettype
        WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname::text = ANY ($1::text[])
        """,
        sorted(called_names()),
    )
    wanted: dict[tuple[str, tuple[str, ...]], str] = {}
    for row in rows:
        arities = {row["arity"], *((1, 2) if '"any"' in row["types"] else ())}
        for arity in arities:
            choices: tuple[tuple[str, ...], ...]
            if arity == 1:
                choices = (TYPES,)
            elif arity == 2:
                choices = (TYPES, _COMMON)
            else:
                choices = tuple(
                    tuple({"text", "jsonb", kind} - {'"any"'}) for kind in row["types"][:arity]
                )
            if 0 < len(choices) <= 5:
                for types in product(*choices):
                    wanted.setdefault((row["name"], types), row["result"])
    return [(name, types, result) for (name, types), result in wanted.items()]


async def _create(
    connection: asyncpg.Connection[asyncpg.Record], wanted: list[tuple[str, tuple[str, ...], str]]
) -> None:
    """Those of them that PostgreSQL allows, and has not got itself."""
    await connection.execute(
        "SELECT hostile.make(name, types, result) FROM unnest($1::text[], $2::text[], $3::text[])"
        " AS wanted(name, types, result)",
        [name for name, _, _ in wanted],
        ["\n".join(types) for _, types, _ in wanted],
        [result for _, _, result in wanted],
    )
