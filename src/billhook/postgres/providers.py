"""Which rows are Stripe's. InsForge's tables also hold those of other payment providers, which
Billhook neither shows nor changes."""

from __future__ import annotations

from billhook.kinds import KINDS

_OF_SEVERAL_PROVIDERS = frozenset(
    {"customer_mappings", "transactions", "webhook_events", "provider_connections"}
    | {kind.table for kind in KINDS.values() if kind.has_provider}
)


def of_stripe(table: str, alias: str = "") -> str:
    """The condition that a row of this table, named with or without its schema, is of Stripe and of
    the environment that is the query's first parameter."""
    prefix = f"{alias}." if alias else ""
    condition = f"{prefix}environment = $1"
    if table.rpartition(".")[2] in _OF_SEVERAL_PROVIDERS:
        condition += f" AND {prefix}provider = 'stripe'"
    return condition
