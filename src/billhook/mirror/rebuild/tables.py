"""The tables that events write, and how their rows are compared."""

from __future__ import annotations

from dataclasses import dataclass

from billhook.kinds import KINDS


@dataclass(frozen=True, slots=True)
class Table:
    """A table that events write.

    Attributes:
        key: the columns, or expressions, that identify a row. A row whose key is partly null has no
        equal.
        named: what to call a row.
        incidental: columns that do not come from Stripe, in addition to those of every table.
        unique: nullable columns with their own unique key, cleared before rows are changed.
    """

    name: str
    key: tuple[str, ...]
    named: str
    incidental: frozenset[str] = frozenset()
    unique: tuple[str, ...] = ()

    @property
    def fresh(self) -> str:
        """The temporary table that a rebuild fills."""
        return f"pg_temp.{self.name.partition('.')[2]}"

    def same(self, one: str, other: str) -> str:
        """The condition that rows of these two aliases have the same key."""
        return " AND ".join(
            f"{column_of(each, one)} = {column_of(each, other)}" for each in self.key
        )


def column_of(expression: str, alias: str) -> str:
    """A column, or expression of columns, of the rows of an alias."""
    return expression.replace("$", f"{alias}.")


# Each table of mirrored objects, and the column of Stripe's id.
_MIRRORED = [
    (each.table, each.key)
    for kind in KINDS.values()
    for each in (kind, kind.children)
    if each is not None
]
TABLES = (
    *(Table(f"payments.{name}", (f"${key}",), f"${key}") for name, key in _MIRRORED),
    Table(
        "payments.customer_mappings",
        ("$subject_type", "$subject_id", "$provider_customer_id"),
        "$provider_customer_id",
    ),
    Table("payments.stripe_checkout_sessions", ("$id",), "$id::text"),
    Table(
        "payments.transactions",
        # A payment may be identified by another of its objects than before, a refund may not.
        (
            "($type = 'refund')",
            "CASE WHEN $type = 'refund' THEN $provider_object_id ELSE $payment_id::text END",
        ),
        "$provider_object_id",
        unique=("provider_object_id",),
    ),
    Table(
        "billhook.customer_claims",
        ("$customer_id", "$kind", "$subject_type", "$subject_id", "$ref"),
        "$customer_id",
        frozenset({"outside_ledger"}),
    ),
    Table("billhook.payment_refs", ("$object_type", "$object_id"), "$object_id"),
    Table("billhook.payment_sources", ("$object_type", "$object_id", "$outcome"), "$object_id"),
    Table("billhook.payment_refunds", ("$object_type", "$object_id"), "$object_id"),
    Table(
        "billhook.subscription_states",
        ("$subscription_id", "$at", "$rank", "$event_id"),
        "$subscription_id",
    ),
    Table("payments.mrr_movements", ("$customer_id", "$currency", "$day"), "$customer_id"),
    Table(
        "billhook.tombstones",
        ("$object_type", "$object_id"),
        "$object_id",
        frozenset({"outside_ledger"}),
    ),
)
