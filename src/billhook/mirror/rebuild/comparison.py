"""Compares the live rows with the rebuilt ones, and swaps them: a few statements per table."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from billhook.kinds import KINDS
from billhook.mirror.rebuild import fresh
from billhook.mirror.rebuild.tables import TABLES, Table, column_of
from billhook.models import Difference, RebuiltTable
from billhook.postgres import LONG_PATIENCE, Connection
from billhook.postgres.providers import of_stripe
from billhook.settings import Environment

_NAMED = 100  # differences of one table

# Surrogate keys and our own clock.
_INCIDENTAL = frozenset({"id", "created_at", "updated_at", "synced_at"})

# The fresh tables have only Billhook's columns, not those that the app added.
_COLUMNS = """
SELECT attname FROM pg_catalog.pg_attribute
WHERE attrelid = $1::text::regclass::oid AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""

# A payment with the same object in both gets the number of the live one.
_RENUMBER = """
INSERT INTO pg_temp.renumbered (rebuilt, live)
SELECT DISTINCT ON (live) rebuilt, live FROM (
    SELECT r.payment_id AS rebuilt, pg_catalog.min(l.payment_id) AS live
    FROM pg_temp.payment_refs r
    JOIN billhook.payment_refs l USING (environment, object_type, object_id)
    GROUP BY r.payment_id) AS known
WHERE rebuilt <> live
ORDER BY live, rebuilt
"""
_NEW_NUMBERS = """
INSERT INTO pg_temp.renumbered (rebuilt, live)
SELECT payment_id, pg_catalog.nextval('billhook.payment_ids') FROM (
    SELECT DISTINCT payment_id FROM pg_temp.payment_refs WHERE payment_id < 0
    ORDER BY payment_id) AS unknown
"""
_NUMBERED = (
    "payment_refs",
    "payment_sources",
    "payment_refunds",
    "transactions",
)
_TAKE_NUMBERS = """
UPDATE pg_temp.{} t SET payment_id = n.live FROM pg_temp.renumbered n WHERE t.payment_id = n.rebuilt
"""
# A sync requests a customer's card in full; an event only contains its id.
_KEEP_EXPANDED = """
UPDATE pg_temp.{table} here SET raw = billhook.keep_expanded(live.raw, here.raw)
FROM payments.{table} live
WHERE {of_stripe} AND live.{key} = here.{key} AND live.raw IS DISTINCT FROM here.raw
"""
# What is kept of a fetched payment is only what projections read of it.
_KEEP_WHOLE = """
UPDATE pg_temp.transactions here SET raw = live.raw
FROM payments.transactions live
WHERE live.provider = 'stripe' AND live.environment = $1
  AND live.provider_object_type = here.provider_object_type
  AND live.provider_object_id = here.provider_object_id
  AND here.raw <> '{}' AND here.raw <> live.raw AND here.raw <@ live.raw
"""
# If an event only contained the first page of a subscription's items, the others come from an
# earlier response of Stripe, and will be fetched again.
_KEEP_CHILDREN = """
INSERT INTO pg_temp.{children}
SELECT ours.* FROM payments.{children} live
JOIN pg_temp.{table} s USING (environment, {parent})
CROSS JOIN pg_catalog.jsonb_populate_record(
    NULL::pg_temp.{children}, pg_catalog.to_jsonb(live)) AS ours
WHERE live.environment = $1 AND s.raw #> '{{{field},has_more}}'::text[] = 'true'
ON CONFLICT DO NOTHING
"""

_SUM = """
SELECT count(*) AS rows,
    pg_catalog.to_hex(coalesce(pg_catalog.bit_xor(
        pg_catalog.hashtextextended(ROW({columns})::text, 0)), 0)) AS sum
FROM {table} t WHERE {of_stripe}
"""
_DIFFERENT = """
WITH live AS (SELECT * FROM {table} WHERE {of_stripe}),
fresh AS (SELECT * FROM {fresh} WHERE environment = $1)
SELECT count(*) OVER () AS all, {live_name} AS live_id, {fresh_name} AS fresh_id,
    live.environment IS NULL AS missing, fresh.environment IS NULL AS extra,
    pg_catalog.array_remove(ARRAY[{fields}], NULL) AS fields
FROM live FULL JOIN fresh ON {same}
WHERE ROW({live_columns}) IS DISTINCT FROM ROW({fresh_columns})
ORDER BY coalesce({live_name}, {fresh_name}) LIMIT {named}
"""
_REMOVE = """
DELETE FROM {table} live WHERE {live_of_stripe}
  AND NOT EXISTS (SELECT FROM {fresh} fresh WHERE {same})
"""
_FREE = """
UPDATE {table} live SET {column} = NULL FROM {fresh} fresh
WHERE {live_of_stripe} AND {same} AND live.{column} IS DISTINCT FROM fresh.{column}
"""
_CHANGE = """
UPDATE {table} live SET ({columns}) = ROW({fresh_columns}) FROM {fresh} fresh
WHERE {live_of_stripe} AND {same} AND ROW({live_columns}) IS DISTINCT FROM ROW({fresh_columns})
"""
_ADD = """
INSERT INTO {table} ({ours}) SELECT {fresh_ours} FROM {fresh} fresh
WHERE environment = $1 AND NOT EXISTS (
    SELECT FROM {table} live WHERE {live_of_stripe} AND {same})
"""


async def compare(connection: Connection, environment: Environment) -> list[RebuiltTable]:
    """Every table, live and rebuilt."""
    await connection.execute(_RENUMBER, timeout=LONG_PATIENCE)
    for name in _NUMBERED:
        await connection.execute(_TAKE_NUMBERS.format(name), timeout=LONG_PATIENCE)
    for keep in _kept():
        await connection.execute(keep, environment, timeout=LONG_PATIENCE)
    await fresh.count(connection)
    return [await _compared(connection, environment, table) for table in TABLES]


def _kept() -> Iterator[str]:
    yield _KEEP_WHOLE
    for kind in KINDS.values():
        if kind.keeps_expanded:
            yield _KEEP_EXPANDED.format(
                table=kind.table, key=kind.key, of_stripe=of_stripe(kind.table, "live")
            )
        if (children := kind.children) is not None:
            yield _KEEP_CHILDREN.format(
                children=children.table,
                table=kind.table,
                parent=children.parent,
                field=children.field,
            )


async def _compared(connection: Connection, environment: Environment, table: Table) -> RebuiltTable:
    ours = await _ours(connection, table)
    columns = _that_count(table, ours)
    listed = ", ".join(columns)
    shown, rebuilt = [
        await connection.fetchrow(
            _SUM.format(columns=listed, table=name, of_stripe=of_stripe(table.name)),
            environment,
            timeout=LONG_PATIENCE,
        )
        for name in (table.name, table.fresh)
    ]
    assert shown is not None
    assert rebuilt is not None
    found = RebuiltTable(
        table=table.name,
        rows=shown["rows"],
        rebuilt_rows=rebuilt["rows"],
        checksum=shown["sum"],
        rebuilt_checksum=rebuilt["sum"],
    )
    if found.checksum == found.rebuilt_checksum and found.rows == found.rebuilt_rows:
        return found
    query = _DIFFERENT.format(
        **_parts(table, ours),
        live_name=column_of(table.named, "live"),
        fresh_name=column_of(table.named, "fresh"),
        fields=", ".join(
            f"CASE WHEN live.{each} IS DISTINCT FROM fresh.{each} THEN '{each}' END"
            for each in columns
        ),
        named=_NAMED,
    )
    rows = await connection.fetch(query, environment, timeout=LONG_PATIENCE)
    found.different = rows[0]["all"] if rows else 0
    for row in rows:
        problem = "missing" if row["missing"] else "extra" if row["extra"] else "different"
        found.differences.append(
            Difference(
                object_id=row["live_id"] or row["fresh_id"] or "",
                problem=problem,
                fields=row["fields"] if problem == "different" else [],
            )
        )
    return found


async def swap(
    connection: Connection, environment: Environment, differing: Collection[str]
) -> None:
    """Replace rows that differ with the rebuilt ones. Equal rows are not touched, so that no
    trigger of the app fires for them."""
    await connection.execute("TRUNCATE pg_temp.renumbered")
    await connection.execute(_NEW_NUMBERS, timeout=LONG_PATIENCE)
    for name in _NUMBERED:
        await connection.execute(_TAKE_NUMBERS.format(name), timeout=LONG_PATIENCE)
    for table in TABLES:
        if table.name not in differing:
            continue
        parts = _parts(table, await _ours(connection, table))
        for statement in (
            _REMOVE.format(**parts),
            *(_FREE.format(**parts, column=each) for each in table.unique),
            _CHANGE.format(**parts),
            _ADD.format(**parts),
        ):
            await connection.execute(statement, environment, timeout=LONG_PATIENCE)


async def _ours(connection: Connection, table: Table) -> list[str]:
    return [row["attname"] for row in await connection.fetch(_COLUMNS, table.fresh)]


def _that_count(table: Table, ours: list[str]) -> list[str]:
    return [each for each in ours if each not in _INCIDENTAL | table.incidental]


def _parts(table: Table, ours: list[str]) -> dict[str, str]:
    columns = _that_count(table, ours)
    return {
        "table": table.name,
        "of_stripe": of_stripe(table.name),
        "live_of_stripe": of_stripe(table.name, "live"),
        "fresh": table.fresh,
        "same": table.same("live", "fresh"),
        "ours": ", ".join(ours),
        "fresh_ours": ", ".join(f"fresh.{each}" for each in ours),
        "columns": ", ".join(columns),
        "live_columns": ", ".join(f"live.{each}" for each in columns),
        "fresh_columns": ", ".join(f"fresh.{each}" for each in columns),
    }
