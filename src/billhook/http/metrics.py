"""Metrics for Prometheus. They are read from PostgreSQL, so every process reports the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response

from billhook.http.admin import ADMIN, NO_QUERY
from billhook.http.openapi import errors
from billhook.mirror_status import mirror_status
from billhook.models import MirrorStatus
from billhook.services import ServicesOf
from billhook.settings import ENVIRONMENTS

router = APIRouter(tags=["Health"], dependencies=[*ADMIN, *NO_QUERY])


def _epoch(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None


_GAUGES: tuple[tuple[str, str, Callable[[MirrorStatus], float | None]], ...] = (
    (
        "billhook_mirror_lag_seconds",
        "Time between the newest applied event and Stripe's newest, as of the last pull.",
        lambda found: found.lag_seconds,
    ),
    (
        "billhook_pulled_timestamp_seconds",
        "When Stripe's event list was last read.",
        lambda found: _epoch(found.pulled_at),
    ),
    (
        "billhook_failed_events",
        "Events that could not be applied.",
        lambda found: found.failed_events,
    ),
    (
        "billhook_dead_letters",
        "Failed events that are no longer retried automatically.",
        lambda found: found.dead_letters,
    ),
    (
        "billhook_objects_to_refresh",
        "Objects that are queued to be fetched from Stripe.",
        lambda found: found.objects_to_refresh,
    ),
    (
        "billhook_verified_timestamp_seconds",
        "When the mirror was last compared with Stripe.",
        lambda found: _epoch(found.verified_at),
    ),
    (
        "billhook_drifting_objects",
        "Objects that differed from Stripe at that time and were not repaired.",
        lambda found: found.drifting_objects,
    ),
)


_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}}
}


@router.get("/metrics", responses=_TEXT | errors(400, 401, 403, 503))
async def metrics(services: ServicesOf) -> Response:
    """Gauges in Prometheus' text format, per environment. The scraper needs an admin key as its
    bearer token."""
    found = [await mirror_status(services.database, each) for each in ENVIRONMENTS]
    lines = []
    for name, meaning, value_of in _GAUGES:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
        for each in found:
            value = value_of(each)
            if value is not None:
                lines.append(f'{name}{{environment="{each.environment}"}} {value}')
    return Response("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")
