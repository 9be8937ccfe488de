"""The tables that a batch writes, and the SQL functions made from their declarations.

`billhook.load_objects` and `billhook.save_rows` are mechanical: for each table a lookup, an upsert
and a deletion by complete keys. Their text stands in `functions/batch.sql` for people to read;
`python -m billhook.rows.tables` writes it, and a test compares it.

The schemas are parameters: a rebuild fills fresh tables with the same functions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from billhook.kinds import KINDS, Kind


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows a batch saves by a complete key.

    Attributes:
        name: with its schema.
        key: the columns of the unique key and their types, in the key's order. `environment` and
            `provider` are the same for all rows of a batch.
        columns: all others, with their types. A `timestamptz` comes as epoch seconds, and
            a `document` as the number of a document of the batch.
        constants: columns that are the same in every row, as SQL expressions.
        on_conflict: SQL expressions for columns that do not just take the new value.
        unless: leave an existing row alone where this SQL condition holds.
        deletes: batches delete rows of it, too.
    """

    name: str
    key: Mapping[str, str]
    columns: Mapping[str, str]
    constants: Mapping[str, str] = field(default_factory=dict)
    on_conflict: Mapping[str, str] = field(default_factory=dict)
    unless: str | None = None
    deletes: bool = False

    @property
    def label(self) -> str:
        """What the table is called in the rows of a batch."""
        return self.name.partition(".")[2]


_VERSION = {
    "provider_event_at": "timestamptz",
    "provider_event_rank": "smallint",
    "provider_event_id": "text",
    "provider_event_previous": "jsonb",
}


def _tables_of(kind: Kind) -> list[Table]:
    """The table of a mirrored kind, and that of its children."""
    columns = {column.name: str(column.type) for column in kind.columns}
    on_conflict = {
        column.name: f"coalesce(EXCLUDED.{column.name}, old.{column.name})"
        for column in kind.columns
        if column.keep
    }
    key = {kind.key: "text"}
    if kind.subject is not None:
        columns |= {"subject_type": "text", "subject_id": "text"}
    if kind.keeps_deleted:
        columns["deleted"] = "boolean"
        on_conflict["deleted"] = "old.deleted OR EXCLUDED.deleted"
    if kind.expand:
        on_conflict["raw"] = "billhook.keep_expanded(old.raw, EXCLUDED.raw)"
    found = [
        Table(
            name=f":payments.{kind.table}",
            key={"provider": "", "environment": ""} | key
            if kind.has_provider
            else {"environment": ""} | key,
            columns=columns | {"raw": "document"} | _VERSION,
            constants={"synced_at": "pg_catalog.now()"},
            on_conflict=on_conflict,
            # What was fetched again without a change is not written, unless a repair has taken its
            # version away.
            unless="old.provider_event_at IS NOT NULL AND EXCLUDED.provider_event_id IS NULL "
            "AND old.raw = EXCLUDED.raw",
            deletes=not kind.keeps_deleted,
        )
    ]
    if (children := kind.children) is not None:
        found.append(
            Table(
                name=f":payments.{children.table}",
                key={"environment": "", children.key: "text"},
                columns={children.parent: "text"}
                | {column.name: str(column.type) for column in children.columns}
                | {"raw": "jsonb"},
                unless="old.raw = EXCLUDED.raw AND "
                f"old.{children.parent} = EXCLUDED.{children.parent}",
                deletes=True,
            )
        )
    return found


_OBJECT = {"environment": "", "object_type": "text", "object_id": "text"}
_PROVIDED = {"provider": "", "environment": ""}

INTERNAL = (
    Table(
        ":billhook.tombstones",
        _OBJECT,
        {"deleted_at": "timestamptz", "outside_ledger": "boolean"},
        on_conflict={
            "deleted_at": "greatest(old.deleted_at, EXCLUDED.deleted_at)",
            "outside_ledger": "old.outside_ledger OR EXCLUDED.outside_ledger",
        },
    ),
    Table(":billhook.ties", _OBJECT, {"event_id": "text"}),
    Table(
        ":billhook.customer_claims",
        {
            "environment": "",
            "customer_id": "text",
            "kind": "text",
            "subject_type": "text",
            "subject_id": "text",
            "ref": "text",
        },
        {"claimed_at": "timestamptz", "outside_ledger": "boolean"},
    ),
    Table(
        ":payments.customer_mappings",
        _PROVIDED | {"provider_customer_id": "text"},
        {"subject_type": "text", "subject_id": "text"},
        deletes=True,
    ),
    Table(":billhook.payment_refs", _OBJECT, {"payment_id": "bigint"}),
    Table(
        ":billhook.payment_sources",
        {
            "environment": "",
            "object_type": "text",
            "object_id": "text",
            "outcome": "text",
        },
        {
            "payment_id": "bigint",
            "version_at": "timestamptz",
            "version_event_id": "text",
            "place": "smallint",
            "type": "text",
            "subject_type": "text",
            "subject_id": "text",
            "customer_id": "text",
            "email": "text",
            "amount": "bigint",
            "full_amount": "bigint",
            "currency": "text",
            "presentment_amount": "bigint",
            "presentment_currency": "text",
            "out_of_band": "boolean",
            "description": "text",
            "happened_at": "timestamptz",
            "provider_created_at": "timestamptz",
            "related": "jsonb",
        },
    ),
    Table(
        ":billhook.payment_refunds",
        {
            "environment": "",
            "object_type": "text",
            "object_id": "text",
        },
        {
            "payment_id": "bigint",
            "version_at": "timestamptz",
            "version_rank": "smallint",
            "version_event_id": "text",
            "status": "text",
            "amount": "bigint",
            "currency": "text",
            "presentment_amount": "bigint",
            "presentment_currency": "text",
            "description": "text",
            "payment_intent_id": "text",
            "charge_id": "text",
            "provider_created_at": "timestamptz",
        },
    ),
    Table(
        ":payments.transactions",
        {"id": "uuid"},
        {
            "type": "text",
            "status": "text",
            "subject_type": "text",
            "subject_id": "text",
            "provider_customer_id": "text",
            "customer_email_snapshot": "text",
            "provider_object_type": "text",
            "provider_object_id": "text",
            "provider_parent_object_type": "text",
            "provider_parent_object_id": "text",
            "related_object_ids": "jsonb",
            "amount": "bigint",
            "amount_refunded": "bigint",
            "amount_out_of_band": "bigint",
            "currency": "text",
            "description": "text",
            "paid_at": "timestamptz",
            "failed_at": "timestamptz",
            "refunded_at": "timestamptz",
            "canceled_at": "timestamptz",
            "provider_created_at": "timestamptz",
            "raw": "document",
            "payment_id": "bigint",
        },
        constants={"provider": "'stripe'", "environment": "env"},
        on_conflict={
            "raw": "CASE WHEN EXCLUDED.raw = '{}'::jsonb THEN old.raw ELSE EXCLUDED.raw END"
        },
        deletes=True,
    ),
)

TABLES = (*(table for kind in KINDS.values() for table in _tables_of(kind)), *INTERNAL)

# --- SQL ---------------------------------------------------------------------------------------

_SAVE = """\
-- Save the rows that a batch changed: for each table an upsert by the complete key, after the rows
-- that go. A row's `raw` is the number of one of `documents`, in which `object_path` leads to
-- Stripe's object.
CREATE OR REPLACE FUNCTION :billhook.save_rows(
    env text, rows jsonb, documents jsonb[], object_path text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone text;
    named record;
BEGIN{parts}
END $$;
"""
_LOAD = """\
-- Load the versions of mirrored objects. `wanted` holds arrays of ids by kind; the states of those
-- in `ties` come whole.
CREATE OR REPLACE FUNCTION :billhook.load_objects(
    env text, wanted jsonb, ties jsonb, OUT loaded json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    {variables} json;
BEGIN{parts}
    loaded := json_build_object({pairs});
END $$;
"""
_LOAD_UNNAMED = """\
-- Load the mirrored rows of customers who may pay for another subject now. Which of them name a
-- subject themselves, their objects tell.
CREATE OR REPLACE FUNCTION :billhook.load_unnamed(env text, customers jsonb)
RETURNS SETOF json LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
BEGIN{parts}
END $$;
"""


def _record_type(type: str) -> str:
    return {"timestamptz": "bigint", "document": "integer"}.get(type, type)


def _value(column: str, type: str) -> str:
    if type == "timestamptz":
        return f"pg_catalog.to_timestamp(r.{column}::double precision)"
    if type == "document":
        return f"coalesce(documents[r.{column}] #> object_path, '{{}}'::jsonb)"
    return f"r.{column}"


def _upsert(table: Table) -> str:
    given = {name: type for name, type in (*table.key.items(), *table.columns.items()) if type}
    common = {"provider": "'stripe'", "environment": "env"}
    values = {name: common[name] for name in table.key if not table.key[name]}
    values |= {name: _value(name, type) for name, type in given.items()}
    values |= table.constants
    updated = [name for name in values if name not in {*table.key, *common}]
    sets = ",\n            ".join(
        f"{name} = {table.on_conflict.get(name, f'EXCLUDED.{name}')}" for name in updated
    )
    record = ", ".join(f"{name} {_record_type(type)}" for name, type in given.items())
    where = f"\n        WHERE NOT ({table.unless})" if table.unless else ""
    return f"""
    IF rows ? '{table.label}'::text THEN
        INSERT INTO {table.name} AS old (
            {_wrapped(values)})
        SELECT
            {_wrapped(values.values())}
        FROM pg_catalog.jsonb_to_recordset(rows -> '{table.label}'::text) AS r(
            {_wrapped(record.split(", "))})
        ON CONFLICT ({", ".join(table.key)}) DO UPDATE SET
            {sets}{where};
    END IF;"""


def _delete(table: Table) -> str:
    *_, key = table.key
    if table.key[key] == "uuid":
        row = "gone::uuid"
    else:
        # Ordered, so that only the index that begins with the complete key will do: PostgreSQL
        # keeps the plan that it makes while the table is small, when any index is as good.
        where = f"t.environment = env AND t.{key} >= gone AND t.{key} <= gone"
        if "provider" in table.key:
            where = f"t.provider = 'stripe'::text AND {where}"
        row = f"""(
                SELECT t.id FROM {table.name} t
                WHERE {where}
                ORDER BY t.{key} LIMIT 1)"""
    return f"""
    IF rows ? '{table.label}_deleted'::text THEN
        FOR gone IN
            SELECT pg_catalog.jsonb_array_elements_text(rows -> '{table.label}_deleted'::text)
        LOOP
            DELETE FROM {table.name} WHERE id = {row};
        END LOOP;
    END IF;"""


def _mark_deleted(kind: Kind) -> str:
    """A deleted object that keeps its row; one that was never mirrored gets an empty one."""
    return f"""
    IF rows ? '{kind.table}_marked'::text THEN
        INSERT INTO :payments.{kind.table} AS old (provider, environment, {kind.key}, deleted, raw)
        SELECT 'stripe', env, k.id, true, pg_catalog.jsonb_build_object('id'::text, k.id)
        FROM pg_catalog.jsonb_array_elements_text(rows -> '{kind.table}_marked'::text) AS k(id)
        ON CONFLICT (provider, environment, {kind.key}) DO UPDATE SET
            deleted = true, synced_at = pg_catalog.now()
        WHERE NOT old.deleted;
    END IF;"""


def _set_subjects(kind: Kind) -> str:
    """Rows that name no subject themselves, whose customer pays for another one now."""
    return f"""
    IF rows ? '{kind.table}_subjects'::text THEN
        FOR named IN SELECT * FROM pg_catalog.jsonb_to_recordset(
            rows -> '{kind.table}_subjects'::text) AS r(id text, subject_type text, subject_id text)
        LOOP
            UPDATE :payments.{kind.table}
            SET subject_type = named.subject_type, subject_id = named.subject_id
            WHERE environment = env AND {kind.key} = named.id;
        END LOOP;
    END IF;"""


def _lookup(kind: Kind) -> str:
    columns = [
        f"t.{kind.key}",
        "extract(epoch FROM t.provider_event_at)::bigint",
        "t.provider_event_rank",
        "t.provider_event_id",
        "t.deleted" if kind.keeps_deleted else "false",
        "NULL::json"
        if kind.children is None
        else f"""(
                SELECT pg_catalog.json_agg(c.{kind.children.key})
                FROM :payments.{kind.children.table} c
                WHERE c.environment = env AND c.{kind.children.parent} >= k.id
                  AND c.{kind.children.parent} <= k.id)""",
        f"""CASE WHEN ties -> '{kind.name}'::text ? k.id
                THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END""",
    ]
    provider = "t.provider = 'stripe'::text AND " if kind.has_provider else ""
    listed = ",\n            ".join(columns)
    return f"""
    IF wanted ? '{kind.name}'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            {listed}))
        INTO of_{kind.name}
        FROM pg_catalog.jsonb_array_elements_text(wanted -> '{kind.name}'::text) AS k(id)
        CROSS JOIN LATERAL (
            SELECT * FROM :payments.{kind.table} t
            WHERE {provider}t.environment = env AND t.{kind.key} >= k.id AND t.{kind.key} <= k.id
            ORDER BY t.{kind.key} LIMIT 1) t;
    END IF;"""


def _unnamed(kind: Kind) -> str:
    return f"""
    RETURN QUERY SELECT pg_catalog.json_build_array('{kind.name}', t.{kind.key}, t.{kind.customer},
        extract(epoch FROM t.provider_event_at)::bigint, t.subject_type, t.subject_id, t.raw)
    FROM pg_catalog.jsonb_array_elements_text(customers) AS k(id) CROSS JOIN LATERAL (
        SELECT * FROM :payments.{kind.table} t
        WHERE t.environment = env AND t.{kind.customer} >= k.id AND t.{kind.customer} <= k.id
        ORDER BY t.{kind.customer} OFFSET 0) t
    WHERE t.provider_event_at IS NOT NULL;"""


def functions() -> str:
    """The text of the functions."""
    deletions = [_delete(table) for table in TABLES if table.deletes]
    kinds = KINDS.values()
    marks = [_mark_deleted(kind) for kind in kinds if kind.keeps_deleted]
    subjects = [_set_subjects(kind) for kind in kinds if kind.subject is not None]
    parts = "".join([*deletions, *(_upsert(table) for table in TABLES), *marks, *subjects])
    load = _LOAD.format(
        variables=" json; ".join(f"of_{kind.name}" for kind in kinds),
        parts="".join(_lookup(kind) for kind in kinds),
        pairs=", ".join(f"'{kind.name}', of_{kind.name}" for kind in kinds),
    )
    with_subject = [kind for kind in kinds if kind.subject is not None]
    unnamed = _LOAD_UNNAMED.format(parts="".join(_unnamed(kind) for kind in with_subject))
    return "\n".join([load, unnamed, _SAVE.format(parts=parts)])


def _wrapped(words: Iterable[str]) -> str:
    """Words separated by commas, in lines of a readable length."""
    return "\n            ".join(textwrap.wrap(", ".join(words), 84, break_long_words=False))


if __name__ == "__main__":
    print(functions(), end="")
