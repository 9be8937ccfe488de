"""What a batch loads by complete keys, declared as rows for each of the wanted keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from billhook.kinds import KINDS, Kind

_ENVIRONMENT = {"environment": "env"}
STRIPE = {"provider": "'stripe'::text", **_ENVIRONMENT}
_IDS = "pg_catalog.jsonb_array_elements_text({}) AS w(id)"
_IDS_BY_KIND = """pg_catalog.jsonb_each({}) AS o(kind, ids)
        CROSS JOIN LATERAL pg_catalog.jsonb_array_elements_text(o.ids) AS w(id)"""


@dataclass(frozen=True, slots=True)
class Lookup:
    """Rows that a batch loads.

    Attributes:
        name: their key in the result.
        wanted: the path to their keys in the JSON document `wanted`.
        keys: a FROM item that yields those keys as rows `w`.
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


def row_of(table: str, key: Mapping[str, str], columns: str = "*") -> str:
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


def epoch(column: str) -> str:
    return f"extract(epoch FROM t.{column})::bigint"


def _object(kind: Kind) -> Lookup:
    """The versions of mirrored objects; for objects in `ties`, the whole state."""
    children = "NULL::json"
    if kind.children is not None:
        children = f"""(
                SELECT pg_catalog.json_agg(t.{kind.children.key})
                FROM :payments.{kind.children.table} t
                WHERE t.environment = env AND {_range(kind.children.parent, "w.id")})"""
    return Lookup(
        f"of_{kind.label}",
        ("objects", kind.name),
        _IDS,
        row_of(
            f":payments.{kind.table}",
            (STRIPE if kind.has_provider else _ENVIRONMENT) | {kind.key: "w.id"},
        ),
        (
            f"t.{kind.key}",
            epoch("provider_event_at"),
            "t.provider_event_rank",
            "t.provider_event_id",
            "t.deleted" if kind.keeps_deleted else "false",
            children,
            f"CASE WHEN wanted -> 'ties'::text -> '{kind.name}'::text ? w.id "
            "THEN pg_catalog.json_build_array(t.raw, t.provider_event_previous) END",
        ),
    )


def _unnamed(kind: Kind) -> Lookup:
    """The mirrored rows of customers who may pay for another subject now. Their objects
    show which of them name a subject themselves."""
    return Lookup(
        f"unnamed_{kind.label}",
        ("unnamed",),
        _IDS,
        f"""SELECT * FROM :payments.{kind.table} t
            WHERE t.environment = env AND {_range(str(kind.customer), "w.id")}
              AND t.provider_event_at IS NOT NULL
            ORDER BY t.{kind.customer} OFFSET 0""",
        (
            *(f"t.{kind.key}", f"t.{kind.customer}", epoch("provider_event_at")),
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
    epoch("claimed_at"),
)
_MAPPING = ("t.provider_customer_id", "t.subject_type", "t.subject_id")
_OBJECT_KEY = {**_ENVIRONMENT, "object_type": "o.kind", "object_id": "w.id"}
_CLAIM_KEY = {
    **_ENVIRONMENT,
    **{"customer_id": "w.customer", "kind": "w.kind"},
    **{"subject_type": "w.type", "subject_id": "w.id", "ref": "w.ref"},
}
_SESSION_KEY = {**_ENVIRONMENT, "checkout_session_id": "w.session_id"}

_STATE_KEY = "t.environment = env AND t.subscription_id = w.id"
_STATE = (
    *("t.subscription_id", epoch("at"), "t.rank", "t.event_id", "t.customer_id", "t.currency"),
    *("t.period_amount", "t.gross", "t.discounts", "t.before", "t.had"),
    *(epoch("had_from"), epoch("had_to")),
)
_MOVEMENTS = f"""t.environment = env AND {_range("customer_id", "w.customer")}
               AND t.currency = w.currency"""


def _next_second(than: str, order: str) -> str:
    """The nearest second with a known state, before or after the wanted one."""
    return f"""coalesce((SELECT t.at FROM :billhook.subscription_states t
                WHERE {_STATE_KEY} AND t.at {than} pg_catalog.to_timestamp(w.at::double precision)
                ORDER BY t.at {order} LIMIT 1), pg_catalog.to_timestamp(w.at::double precision))"""


LOOKUPS = (
    Lookup(
        "ledger",
        ("events",),
        _IDS,
        row_of("payments.webhook_events", STRIPE | {"provider_event_id": "w.id"}),
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
        row_of(":billhook.archived_events", _ENVIRONMENT | {"event_id": "w.id"}),
        ("t.event_id", "t.content"),
    ),
    Lookup(
        "sessions",
        ("sessions",),
        _records("session_id text, row_id uuid"),
        f"""SELECT * FROM (
            ({row_of(":payments.stripe_checkout_sessions", _SESSION_KEY)})
            UNION ALL
            (SELECT * FROM :payments.stripe_checkout_sessions t
             WHERE t.id = w.row_id AND t.environment = env AND t.checkout_session_id IS NULL)
            ) AS either LIMIT 1""",
        ("w.session_id", "t.id", epoch("provider_event_at"), "t.provider_event_rank"),
    ),
    *map(_object, KINDS.values()),
    Lookup(
        "tombstones",
        ("objects",),
        _IDS_BY_KIND,
        row_of(":billhook.tombstones", _OBJECT_KEY),
        ("t.object_type", "t.object_id", epoch("deleted_at")),
    ),
    # For objects with a tie the event whose state won.
    Lookup(
        "ties",
        ("ties",),
        _IDS_BY_KIND,
        row_of(":billhook.ties", _OBJECT_KEY),
        ("t.object_type", "t.object_id", "t.event_id"),
    ),
    # Who pays for whom, and the current mappings.
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
        row_of(":billhook.customer_claims", _CLAIM_KEY),
        _CLAIM,
    ),
    Lookup(
        "deleted_customers",
        ("claims_of",),
        _CUSTOMER,
        row_of(":payments.customers", STRIPE | {"provider_customer_id": "w.customer"}),
        ("t.provider_customer_id", "t.deleted"),
    ),
    Lookup(
        "mapped",
        ("claims_of",),
        _CUSTOMER,
        row_of(":payments.customer_mappings", STRIPE | {"provider_customer_id": "w.customer"}),
        _MAPPING,
    ),
    Lookup(
        "held",
        ("claims_on",),
        _SUBJECT,
        row_of(
            ":payments.customer_mappings",
            STRIPE | {"subject_type": "w.type", "subject_id": "w.id"},
        ),
        _MAPPING,
    ),
    *(_unnamed(kind) for kind in KINDS.values() if kind.subject is not None),
    # The states around the new ones, or all of a subscription's.
    Lookup(
        "states",
        ("states",),
        _records("id text, at bigint"),
        f"""SELECT * FROM :billhook.subscription_states t
            WHERE {_STATE_KEY}
              AND t.at >= {_next_second("<", "DESC")}
              AND t.at <= {_next_second(">", "ASC")}
            ORDER BY t.at OFFSET 0""",
        _STATE,
    ),
    Lookup(
        "histories",
        ("histories",),
        _IDS,
        f"SELECT * FROM :billhook.subscription_states t WHERE {_STATE_KEY} ORDER BY t.at OFFSET 0",
        _STATE,
    ),
    Lookup(
        "discounts",
        ("discounts",),
        _IDS,
        row_of(":billhook.discounts", _ENVIRONMENT | {"discount_id": "w.id"}),
        ("t.discount_id", "t.percent_off", "t.amount_off", "t.currency", "t.forever"),
    ),
    Lookup(
        "movements",
        ("movements",),
        _records("customer text, currency text, since date"),
        f"""(SELECT * FROM :payments.mrr_movements t
             WHERE {_MOVEMENTS} AND t.day < w.since
             ORDER BY t.customer_id DESC, t.currency DESC, t.day DESC LIMIT 1)
            UNION ALL
            (SELECT * FROM :payments.mrr_movements t
             WHERE {_MOVEMENTS} AND t.day >= w.since
             ORDER BY t.customer_id, t.currency, t.day OFFSET 0)""",
        ("t.customer_id", "t.currency", "t.day", "t.id", "t.kind", "t.amount", "t.mrr", "t.latest"),
    ),
)
