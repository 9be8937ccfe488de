"""The SQL functions that load and save the rows of a batch, made from declarations.

They are mechanical: lookups, upserts and deletions by complete keys. Their text stands in
`postgres/functions/generated.sql` for people to read. `python -m billhook.rows.functions` writes
it, and a test compares it. The schemas are parameters: a rebuild fills fresh tables with the same
functions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from billhook.kinds import KINDS, Kind
from billhook.kinds.disputes import DISPUTE
from billhook.rows.lookups import LOOKUPS, STRIPE, epoch, row_of
from billhook.rows.tables import PAYMENT_TABLES, TABLES, Table

_HEAD = """\
-- Generated from the declarations in billhook/kinds and billhook/rows; do not edit:
-- python -m billhook.rows.functions > src/billhook/postgres/functions/generated.sql

"""
_LOAD = """\
CREATE OR REPLACE FUNCTION :billhook.{signature}
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    {variables}
BEGIN{parts}
    loaded := pg_catalog.json_build_object(
        {pairs});
END $$;
"""
_LOAD_ROWS = """\
-- Load what a batch touches by complete keys. `wanted` says which: rows.loading.Wanted. Only
-- `billhook.load_batch` calls it, whose settings leave the planner no choice.
"""
_LOAD_PAYMENT_ROWS = """\
-- Load all that is known of payments.
"""
# What a payment shows of its disputes, which are mirrored objects: reducers.payments.Dispute.
_OF_DISPUTE = {"environment": "r.environment", DISPUTE.key: "r.object_id"}
_DISPUTES = f"""
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        r.payment_id, t.dispute_id, t.status, t.reason, t.amount, t.currency,
        {epoch("evidence_due_by")}, {epoch("provider_created_at")}))
    INTO disputes
    FROM :billhook.payment_refs r
    CROSS JOIN LATERAL (
            {row_of(f":payments.{DISPUTE.table}", _OF_DISPUTE)}) t
    WHERE r.payment_id = ANY (ids) AND r.object_type = 'dispute'::text;"""
_SAVE = """\
-- Save the rows that a batch changed: for each table an upsert by the complete key, after the rows
-- that go. A row's `raw` is the number of one of `documents`, in which `object_path` leads to
-- Stripe's object.
CREATE OR REPLACE FUNCTION :billhook.save_rows(
    env text, rows jsonb, documents jsonb[], object_path text[])
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    gone text;
    changed record;
BEGIN{parts}
END $$;
"""


def _load(signature: str, parts: Mapping[str, str]) -> str:
    """A function whose statements each load into a variable of their own."""
    return _LOAD.format(
        signature=signature,
        variables="\n    ".join(f"{name} json;" for name in parts),
        parts="".join(parts.values()),
        pairs=_wrapped(f"'{name}', {name}" for name in parts),
    )


def _whole(table: Table) -> str:
    types = table.given
    columns = [epoch(n) if types[n] == "timestamptz" else f"t.{n}" for n in table.loaded]
    return f"""
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        {_wrapped(columns)}))
    INTO {table.label} FROM {table.name} t WHERE t.payment_id = ANY (ids);"""


def _record(columns: Mapping[str, str]) -> str:
    """The columns of rows in JSON."""
    types = {"timestamptz": "bigint", "delay": "double precision", "document": "integer"}
    return ", ".join(f"{name} {types.get(type, type)}" for name, type in columns.items())


def _value(row: str, column: str, type: str) -> str:
    given = f"{row}.{column}"
    if type == "timestamptz":
        return f"pg_catalog.to_timestamp({given}::double precision)"
    if type == "delay":
        return f"pg_catalog.now() + pg_catalog.make_interval(secs => {given})"
    if type == "document":
        return f"coalesce(documents[{given}] #> object_path, '{{}}'::jsonb)"
    return given


def _upsert(table: Table) -> str:
    common = {"provider": "'stripe'", "environment": "env"}
    values = {name: common[name] for name in table.key if not table.key[name]}
    values |= {name: _value("r", name, type) for name, type in table.given.items()}
    values |= table.constants
    updated = [name for name in values if name not in {*table.key, *common}]
    sets = ",\n            ".join(
        f"{name} = {table.on_conflict.get(name, f'EXCLUDED.{name}')}" for name in updated
    )
    where = f"\n        WHERE NOT ({table.unless})" if table.unless else ""
    return f"""
    IF rows ? '{table.label}'::text THEN
        INSERT INTO {table.name} AS old (
            {_wrapped(values)})
        SELECT
            {_wrapped(values.values())}
        FROM pg_catalog.jsonb_to_recordset(rows -> '{table.label}'::text) AS r(
            {_wrapped(_record(table.given).split(", "))})
        ON CONFLICT ({", ".join(table.key)}) DO UPDATE SET
            {sets}{where};
    END IF;"""


def _delete(table: Table) -> str:
    *before, key = table.key
    row = "gone::uuid"
    if table.key[key] != "uuid":
        common = {name: STRIPE[name] for name in before}
        row = f"({row_of(table.name, common | {key: 'gone'}, 't.id')})"
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


def _update(
    label: str, table: str, record: Mapping[str, str], sets: Iterable[str], key: str
) -> str:
    """Change rows that exist. One by one: in a join, the planner could prefer another way than by
    the key."""
    changes = ",\n                ".join(sets)
    return f"""
    IF rows ? '{label}'::text THEN
        FOR changed IN SELECT * FROM pg_catalog.jsonb_to_recordset(rows -> '{label}'::text) AS r(
            {_wrapped(_record(record).split(", "))})
        LOOP
            UPDATE :payments.{table} old SET
                {changes}
            WHERE {key};
        END LOOP;
    END IF;"""


def _set_subjects(kind: Kind) -> str:
    """Rows that name no subject themselves, whose customer pays for another one now."""
    return _update(
        f"{kind.table}_subjects",
        kind.table,
        {"id": "text", "subject_type": "text", "subject_id": "text"},
        [f"{name} = changed.{name}" for name in ("subject_type", "subject_id")],
        f"old.environment = env AND old.{kind.key} = changed.id",
    )


def _save_sessions() -> str:
    """Billhook's Checkout Sessions as changed by events. An older event fills only gaps."""
    replaced = {
        "status": "text",
        "raw": "document",
        "provider_event_at": "timestamptz",
        "provider_event_rank": "smallint",
        "provider_event_id": "text",
    }
    filled = ("payment_status", "customer_id", "payment_intent_id", "subscription_id")
    either = ("checkout_session_id", "url")
    record = {"id": "uuid", "newer": "boolean"} | replaced
    record |= dict.fromkeys((*filled, *either), "text")
    sets = [
        f"{name} = CASE WHEN changed.newer THEN {_value('changed', name, type)} ELSE old.{name} END"
        for name, type in replaced.items()
    ]
    sets += [
        f"""{name} = CASE WHEN changed.newer THEN coalesce(changed.{name}, old.{name})
                    ELSE coalesce(old.{name}, changed.{name}) END"""
        for name in filled
    ]
    sets += [f"{name} = coalesce(changed.{name}, old.{name})" for name in either]
    sets.append("last_error = NULL")
    table = "stripe_checkout_sessions"
    return _update(table, table, record, sets, "old.id = changed.id")


def functions() -> str:
    """The text of the functions."""
    kinds = KINDS.values()
    load = _LOAD_ROWS + _load(
        "load_rows(env text, wanted jsonb, OUT loaded json)",
        {each.name: each.sql for each in LOOKUPS},
    )
    load_payments = _LOAD_PAYMENT_ROWS + _load(
        "load_payment_rows(ids bigint[], OUT loaded json)",
        {each.label: _whole(each) for each in PAYMENT_TABLES} | {"disputes": _DISPUTES},
    )
    parts = [_delete(table) for table in TABLES if table.deletes]
    parts += map(_upsert, TABLES)
    parts += [_mark_deleted(kind) for kind in kinds if kind.keeps_deleted]
    parts += [_set_subjects(kind) for kind in kinds if kind.subject is not None]
    parts.append(_save_sessions())
    return _HEAD + "\n".join([load, load_payments, _SAVE.format(parts="".join(parts))])


def _wrapped(words: Iterable[str]) -> str:
    """Words separated by commas, in lines of a readable length."""
    return "\n            ".join(textwrap.wrap(", ".join(words), 84, break_long_words=False))


if __name__ == "__main__":
    print(functions(), end="")
