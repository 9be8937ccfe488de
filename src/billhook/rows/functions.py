"""The SQL functions that load and save the rows of a batch, made from declarations.

They are mechanical: lookups, upserts and deletions by complete keys. Their text stands in
`postgres/functions/batch.sql` for people to read; `python -m billhook.rows.functions` writes it,
and a test compares it. The schemas are parameters: a rebuild fills fresh tables with the same
functions.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from billhook.kinds import KINDS, Kind
from billhook.rows.tables import PAYMENT_TABLES, TABLES, Table

_LOAD = """\
-- Load what a batch touches by complete keys. `wanted` says which: rows.loading.Wanted. Only
-- `billhook.load_batch` calls it, whose settings leave the planner no choice.
CREATE OR REPLACE FUNCTION :billhook.load_rows(env text, wanted jsonb, OUT loaded json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    {variables}
BEGIN{parts}
    loaded := pg_catalog.json_build_object(
        {pairs});
END $$;
"""
_LOAD_PAYMENTS = """\
-- Load all that is known of payments.
CREATE OR REPLACE FUNCTION :billhook.load_payment_rows(ids bigint[], OUT loaded json)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    {variables}
BEGIN{parts}
    loaded := pg_catalog.json_build_object(
        {pairs});
END $$;
"""
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

_ENVIRONMENT = {"environment": "env"}
_STRIPE = {"provider": "'stripe'::text", **_ENVIRONMENT}
_IDS = "pg_catalog.jsonb_array_elements_text({}) AS w(id)"
_IDS_BY_KIND = """pg_catalog.jsonb_each({}) AS o(kind, ids)
        CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(o.ids) AS w(id)"""


# --- Loading -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows that a batch loads.

    Attributes:
        name: what they are called in what is loaded.
        wanted: where their keys are in what is wanted: a name, or the names on the way to it.
        keys: the keys as rows `w`, of what is wanted.
        rows: the rows of one key, as a query.
        columns: what is loaded of each row `t`.
    """

    name: str
    wanted: tuple[str, ...]
    keys: str
    rows: str
    columns: tuple[str, ...]

    @property
    def sql(self) -> str:
        """As a statement of PL/pgSQL."""
        *way, last = self.wanted
        place = " -> ".join(["wanted", *(f"'{name}'::text" for name in way)])
        columns = ",\n            ".join(self.columns)
        keys = self.keys.format(f"{place} -> '{last}'::text")
        return f"""
    IF {place} ? '{last}'::text THEN
        SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
            {columns}))
        INTO {self.name}
        FROM {keys}
        CROSS JOIN LATERAL (
            {self.rows}) t;
    END IF;"""


def _records(columns: str) -> str:
    return f"pg_catalog.jsonb_to_recordset({{}}) AS w({columns})"


def _range(column: str, value: str) -> str:
    return f"t.{column} >= {value} AND t.{column} <= {value}"


def _row(table: str, key: Mapping[str, str], columns: str = "*") -> str:
    """The row of a complete key.

    Ordered, so that only the index that begins with the complete key will do: PostgreSQL keeps the
    plan that it makes while the table is small, when any index is as good.
    """
    *before, (column, value) = key.items()
    where = " AND ".join(f"t.{name} = {one}" for name, one in before)
    return f"""SELECT {columns} FROM {table} t
            WHERE {where}
              AND {_range(column, value)}
            ORDER BY t.{column} LIMIT 1"""


def _epoch(column: str) -> str:
    return f"extract(epoch FROM t.{column})::bigint"


def _object(kind: Kind) -> Lookup:
    """The versions of mirrored objects; the states of those in `ties` come whole."""
    children = "NULL::json"
    if kind.children is not None:
        children = f"""(
                SELECT pg_catalog.json_agg(t.{kind.children.key})
                FROM :payments.{kind.children.table} t
                WHERE t.environment = env AND {_range(kind.children.parent, "w.id")})"""
    return Lookup(
        f"of_{kind.name}",
        ("objects", kind.name),
        _IDS,
        _row(
            f":payments.{kind.table}",
            (_STRIPE if kind.has_provider else _ENVIRONMENT) | {kind.key: "w.id"},
        ),
        (
            f"t.{kind.key}",
            _epoch("provider_event_at"),
            "t.provider_event_rank",
            "t.provider_event_id",
            "t.deleted" if kind.keeps_deleted else "false",
            children,
            f"CASE WHEN wanted -> 'ties'::text -> '{kind.name}'::text ? w.id "
            "THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END",
        ),
    )


def _unnamed(kind: Kind) -> Lookup:
    """The mirrored rows of customers who may pay for another subject now. Which of them name a
    subject themselves, their objects tell."""
    return Lookup(
        f"unnamed_{kind.name}",
        ("unnamed",),
        _IDS,
        f"""SELECT * FROM :payments.{kind.table} t
            WHERE t.environment = env AND {_range(str(kind.customer), "w.id")}
              AND t.provider_event_at IS NOT NULL
            ORDER BY t.{kind.customer} OFFSET 0""",
        (
            *(f"t.{kind.key}", f"t.{kind.customer}", _epoch("provider_event_at")),
            *("t.subject_type", "t.subject_id", "t.raw"),
        ),
    )


def _claims(where: str, column: str) -> str:
    """Of each customer or subject the newest checkouts and the oldest metadata, as many as wanted
    (null: all)."""
    return f"""(SELECT * FROM :billhook.customer_claims t
             WHERE {where}
               AND t.kind = 'checkout'
             ORDER BY t.{column} DESC, t.kind DESC, t.claimed_at DESC, t.ref DESC LIMIT w.most)
            UNION ALL
            (SELECT * FROM :billhook.customer_claims t
             WHERE {where}
               AND t.kind = 'metadata'
             ORDER BY t.{column}, t.kind, t.claimed_at, t.ref LIMIT w.most)"""


_CUSTOMER = _records("customer text, most bigint")
_SUBJECT = _records("type text, id text, most bigint")
_CLAIM = (
    *("t.customer_id", "t.subject_type", "t.subject_id", "t.kind", "t.ref"),
    _epoch("claimed_at"),
)
_MAPPING = ("t.provider_customer_id", "t.subject_type", "t.subject_id")
_OBJECT_KEY = {**_ENVIRONMENT, "object_type": "o.kind", "object_id": "w.id"}
_CLAIM_KEY = {
    **_ENVIRONMENT,
    **{"customer_id": "w.customer", "kind": "w.kind"},
    **{"subject_type": "w.type", "subject_id": "w.id", "ref": "w.ref"},
}
_SESSION_KEY = {**_ENVIRONMENT, "checkout_session_id": "w.session_id"}

LOOKUPS = (
    Lookup(
        "ledger",
        ("events",),
        _IDS,
        _row("payments.webhook_events", _STRIPE | {"provider_event_id": "w.id"}),
        (
            *("t.provider_event_id", "t.id", "t.processing_status", "t.attempt_count"),
            *("t.last_error", "t.received_at", "t.processed_at", "t.created_at", "t.updated_at"),
            "(SELECT o.account_id FROM billhook.events_of_others(env) o WHERE o.event_id = w.id)",
        ),
    ),
    Lookup(
        "archived",
        ("old_events",),
        _IDS,
        _row(":billhook.archived_events", _ENVIRONMENT | {"event_id": "w.id"}),
        ("t.event_id", "t.content"),
    ),
    Lookup(
        "sessions",
        ("sessions",),
        _records("session_id text, row_id uuid"),
        f"""SELECT * FROM (
            ({_row(":payments.stripe_checkout_sessions", _SESSION_KEY)})
            UNION ALL
            (SELECT * FROM :payments.stripe_checkout_sessions t
             WHERE t.id = w.row_id AND t.environment = env AND t.checkout_session_id IS NULL)
            ) AS either LIMIT 1""",
        ("w.session_id", "t.id", _epoch("provider_event_at"), "t.provider_event_rank"),
    ),
    *map(_object, KINDS.values()),
    Lookup(
        "tombstones",
        ("objects",),
        _IDS_BY_KIND,
        _row(":billhook.tombstones", _OBJECT_KEY),
        ("t.object_type", "t.object_id", _epoch("deleted_at")),
    ),
    # For objects with a tie the event whose state won.
    Lookup(
        "ties",
        ("ties",),
        _IDS_BY_KIND,
        _row(":billhook.ties", _OBJECT_KEY),
        ("t.object_type", "t.object_id", "t.event_id"),
    ),
    # Who pays for whom, and the mappings that stand now.
    Lookup(
        "claims_of",
        ("claims_of",),
        _CUSTOMER,
        _claims(f"t.environment = env AND {_range('customer_id', 'w.customer')}", "customer_id"),
        _CLAIM,
    ),
    Lookup(
        "claims_on",
        ("claims_on",),
        _SUBJECT,
        _claims(
            f"t.environment = env AND t.subject_type = w.type AND {_range('subject_id', 'w.id')}",
            "subject_id",
        ),
        _CLAIM,
    ),
    Lookup(
        "claims",
        ("claims",),
        _records("customer text, kind text, type text, id text, ref text"),
        _row(":billhook.customer_claims", _CLAIM_KEY),
        _CLAIM,
    ),
    Lookup(
        "deleted_customers",
        ("claims_of",),
        _CUSTOMER,
        _row(":payments.customers", _STRIPE | {"provider_customer_id": "w.customer"}),
        ("t.provider_customer_id", "t.deleted"),
    ),
    Lookup(
        "mapped",
        ("claims_of",),
        _CUSTOMER,
        _row(":payments.customer_mappings", _STRIPE | {"provider_customer_id": "w.customer"}),
        _MAPPING,
    ),
    Lookup(
        "held",
        ("claims_on",),
        _SUBJECT,
        _row(
            ":payments.customer_mappings",
            _STRIPE | {"subject_type": "w.type", "subject_id": "w.id"},
        ),
        _MAPPING,
    ),
    *(_unnamed(kind) for kind in KINDS.values() if kind.subject is not None),
)


def _whole(table: Table) -> str:
    types = table.given
    columns = [_epoch(n) if types[n] == "timestamptz" else f"t.{n}" for n in table.loaded]
    return f"""
    SELECT pg_catalog.json_agg(pg_catalog.json_build_array(
        {_wrapped(columns)}))
    INTO {table.label} FROM {table.name} t WHERE t.payment_id = ANY (ids);"""


# --- Saving ------------------------------------------------------------------------------------


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
        common = {name: _STRIPE[name] for name in before}
        row = f"({_row(table.name, common | {key: 'gone'}, 't.id')})"
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
    load = _LOAD.format(
        variables="\n    ".join(f"{each.name} json;" for each in LOOKUPS),
        parts="".join(each.sql for each in LOOKUPS),
        pairs=_wrapped(f"'{each.name}', {each.name}" for each in LOOKUPS),
    )
    load_payments = _LOAD_PAYMENTS.format(
        variables="\n    ".join(f"{each.label} json;" for each in PAYMENT_TABLES),
        parts="".join(map(_whole, PAYMENT_TABLES)),
        pairs=_wrapped(f"'{each.label}', {each.label}" for each in PAYMENT_TABLES),
    )
    parts = [_delete(table) for table in TABLES if table.deletes]
    parts += map(_upsert, TABLES)
    parts += [_mark_deleted(kind) for kind in kinds if kind.keeps_deleted]
    parts += [_set_subjects(kind) for kind in kinds if kind.subject is not None]
    parts.append(_save_sessions())
    return "\n".join([load, load_payments, _SAVE.format(parts="".join(parts))])


def _wrapped(words: Iterable[str]) -> str:
    """Words separated by commas, in lines of a readable length."""
    return "\n            ".join(textwrap.wrap(", ".join(words), 84, break_long_words=False))


if __name__ == "__main__":
    print(functions(), end="")
