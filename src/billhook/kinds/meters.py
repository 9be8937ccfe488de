"""Meters: how usage is aggregated and billed. Stripe never deletes one; it can be deactivated."""

from __future__ import annotations

from billhook.kinds import kind
from billhook.kinds.kind import Kind, Listed
from billhook.kinds.reading import StripeObject, hash_of, text

CUSTOMER_KEY = "stripe_customer_id"
VALUE_KEY = "value"
"""The keys in the payload of a meter event, unless the meter names others."""


def _formula(meter: StripeObject) -> str:
    return text(hash_of(meter.get("default_aggregation")).get("formula")) or "sum"


def _customer_key(meter: StripeObject) -> str:
    return text(hash_of(meter.get("customer_mapping")).get("event_payload_key")) or CUSTOMER_KEY


def _value_key(meter: StripeObject) -> str:
    return text(hash_of(meter.get("value_settings")).get("event_payload_key")) or VALUE_KEY


METER = Kind(
    name="billing.meter",
    table="stripe_meters",
    key="meter_id",
    columns=(
        kind.required("event_name"),
        kind.text("display_name"),
        kind.computed("formula", "text", _formula, required=True),
        kind.required("status"),
        kind.computed("customer_key", "text", _customer_key, required=True),
        kind.computed("value_key", "text", _value_key, required=True),
        kind.text("event_time_window"),
        kind.time("provider_created_at", "created"),
    ),
    path="/v1/billing/meters",
    by_created=False,
    changed_by=tuple(
        f"billing.meter.{what}" for what in ("created", "updated", "deactivated", "reactivated")
    ),
    listed=Listed(
        about="Meters, which aggregate usage.",
        references=(),
        choice="status",
        choices=("active", "inactive"),
        summary=("event_name", "display_name", "formula", "status", "provider_created_at"),
    ),
)
