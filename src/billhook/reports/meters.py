"""Meters: created and switched at Stripe; the mirror has Stripe's answer at once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from billhook.kinds import METER
from billhook.mirror import fetching
from billhook.models import CreateMeter, Meter, MeterResponse
from billhook.postgres import Database
from billhook.reports import catalog
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject


async def create_meter(
    database: Database, gateway: Gateway, environment: Environment, order: CreateMeter
) -> MeterResponse:
    """Create a meter at Stripe. Safe to repeat with an idempotency key.

    Raises:
        PaymentConfigInvalid, RateLimited, UpstreamFailure: Stripe; nothing was changed.
    """
    params: dict[str, Any] = {
        "display_name": order.display_name,
        "event_name": order.event_name,
        "default_aggregation": {"formula": order.formula},
    }
    if order.customer_key is not None:
        params["customer_mapping"] = {"event_payload_key": order.customer_key, "type": "by_id"}
    if order.value_key is not None:
        params["value_settings"] = {"event_payload_key": order.value_key}
    if order.event_time_window is not None:
        params["event_time_window"] = order.event_time_window
    key = catalog.idempotency_key(environment, "meter", order.idempotency_key)
    made = await catalog.create_object(database, gateway, environment, METER, params, key)
    return _meter(environment, made)


async def switch_meter(
    database: Database,
    gateway: Gateway,
    environment: Environment,
    meter_id: str,
    to: Literal["deactivate", "reactivate"],
) -> MeterResponse:
    """Deactivate a meter, which then takes no usage, or reactivate it. Raises as `create_meter`;
    Stripe's 404 for an unknown one."""
    reader = await fetching.reader_of_account(database, gateway, environment)
    path = f"{fetching.path_of(METER, meter_id)}/{to}"
    answer = await gateway.post(environment, path, {}, key=reader.key)
    await fetching.write_one(reader, METER, answer.data, answer.at)
    return _meter(environment, answer.data)


def _meter(environment: Environment, found: StripeObject) -> MeterResponse:
    now = datetime.now(UTC)
    row = METER.row(found) or {}
    created = row.pop("provider_created_at", None)
    times = {
        "provider_created_at": None
        if created is None
        else datetime.fromtimestamp(int(str(created)), UTC),
        **dict.fromkeys(("synced_at", "created_at", "updated_at"), now),
    }
    values = {"environment": environment, METER.key: found["id"], **row, **times}
    return MeterResponse(meter=Meter.model_validate(values))
