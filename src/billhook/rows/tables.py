"""The tables that a batch writes. `functions.py` makes SQL of these declarations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from billhook.kinds import KINDS, Kind


@dataclass(frozen=True, slots=True)
class Table:
    """A table whose rows a batch saves by a complete key.

    Attributes:
        name: with its schema.
        key: the columns of the unique key and their types, in the key's order. `environment` and
            `provider` are the same for all rows of a batch.
        columns: all others, with their types. A `timestamptz` comes as epoch seconds, a `delay`
            as seconds from now, and a `document` as the number of a document of the batch.
        constants: columns that are the same in every row, as SQL expressions.
        on_conflict: SQL expressions for columns that do not just take the new value.
        unless: leave an existing row alone where this SQL condition holds.
        deletes: whether batches also delete its rows.
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

    @property
    def given(self) -> Mapping[str, str]:
        """The columns that each row gives, with their types."""
        return {name: type for name, type in (*self.key.items(), *self.columns.items()) if type}

    @property
    def loaded(self) -> list[str]:
        """The columns of a row that is loaded whole: all but documents, which nobody reads."""
        return [name for name, type in self.given.items() if type != "document"]


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
    columns |= {name: str(type) for name, type in kind.derived.items()}
    unchanged = "".join(
        f" AND old.{name} IS NOT DISTINCT FROM EXCLUDED.{name}" for name in kind.derived
    )
    if kind.keeps_expanded:
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
            f"AND old.raw = EXCLUDED.raw{unchanged}",
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

PAYMENT_REFS = Table(":billhook.payment_refs", _OBJECT, {"payment_id": "bigint"})
PAYMENT_SOURCES = Table(
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
)
PAYMENT_REFUNDS = Table(
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
)
TRANSACTIONS = Table(
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
        "amount_disputed": "bigint",
        "amount_lost": "bigint",
        "currency": "text",
        "description": "text",
        "paid_at": "timestamptz",
        "failed_at": "timestamptz",
        "refunded_at": "timestamptz",
        "canceled_at": "timestamptz",
        "provider_created_at": "timestamptz",
        "dispute_status": "text",
        "dispute_reason": "text",
        "dispute_due_by": "timestamptz",
        "disputed_at": "timestamptz",
        "raw": "document",
        "payment_id": "bigint",
    },
    constants={"provider": "'stripe'", "environment": "env"},
    on_conflict={"raw": "CASE WHEN EXCLUDED.raw = '{}'::jsonb THEN old.raw ELSE EXCLUDED.raw END"},
    deletes=True,
)
PAYMENT_TABLES = (PAYMENT_REFS, PAYMENT_SOURCES, PAYMENT_REFUNDS, TRANSACTIONS)
"""What belongs to a payment is loaded whole, by its `payment_id`."""

SUBSCRIPTION_STATES = Table(
    ":billhook.subscription_states",
    {
        "environment": "",
        "subscription_id": "text",
        "at": "timestamptz",
        "rank": "smallint",
        "event_id": "text",
    },
    {
        "customer_id": "text",
        "currency": "text",
        "period_amount": "bigint",
        "gross": "bigint",
        "discounts": "jsonb",
        "before": "text",
        "had": "bigint",
        "had_from": "timestamptz",
        "had_to": "timestamptz",
    },
)
DISCOUNTS = Table(
    ":billhook.discounts",
    {"environment": "", "discount_id": "text"},
    {"percent_off": "text", "amount_off": "bigint", "currency": "text", "forever": "boolean"},
)
MRR_MOVEMENTS = Table(
    ":payments.mrr_movements",
    {"id": "uuid"},
    {
        "customer_id": "text",
        "currency": "text",
        "day": "date",
        "kind": "text",
        "amount": "bigint",
        "mrr": "bigint",
        "latest": "boolean",
    },
    constants={"environment": "env"},
    deletes=True,
)

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
    *PAYMENT_TABLES,
    *(SUBSCRIPTION_STATES, DISCOUNTS, MRR_MOVEMENTS),
    # A new `marked_at` keeps the row of an object that is just being fetched.
    Table(
        ":billhook.refreshes",
        _OBJECT,
        {"reason": "text", "next_at": "delay"},
        constants={"marked_at": "pg_catalog.clock_timestamp()"},
        on_conflict={
            "reason": "old.reason",
            "next_at": "least(old.next_at, EXCLUDED.next_at)",
        },
    ),
)

TABLES = (*(table for kind in KINDS.values() for table in _tables_of(kind)), *INTERNAL)
