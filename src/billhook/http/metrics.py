"""Metrics for Prometheus: of this process, and the state of the mirror as PostgreSQL has it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from billhook.http.openapi import errors
from billhook.http.routes import ADMIN, NO_QUERY
from billhook.mirror.status import mirror_status
from billhook.models import MirrorStatus, UsageState
from billhook.services import ServicesOf
from billhook.settings import ENVIRONMENTS
from billhook.usage.state import usage_state

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


@dataclass(eq=False, slots=True)
class _Mirror(Collector):
    found: Sequence[MirrorStatus]

    def collect(self) -> Iterator[Metric]:
        for name, meaning, value_of in _GAUGES:
            gauge = GaugeMetricFamily(name, meaning, labels=["environment"])
            for each in self.found:
                if (value := value_of(each)) is not None:
                    gauge.add_metric([each.environment], value)
            yield gauge


_USAGE: tuple[tuple[str, str, Callable[[UsageState], float]], ...] = (
    (
        "billhook_usage_unsent_rows",
        "Rows of usage that will be sent to Stripe.",
        lambda found: found.unsent,
    ),
    (
        "billhook_usage_lag_seconds",
        "How long the oldest of them has been there.",
        lambda found: found.lag_seconds,
    ),
    (
        "billhook_usage_waiting_rows",
        "Rows of usage whose subject has no Stripe customer yet.",
        lambda found: found.waiting,
    ),
    (
        "billhook_usage_failed_rows",
        "Rows of usage that Stripe rejected.",
        lambda found: found.failed,
    ),
    (
        "billhook_usage_uncertain_rows",
        "Rows of usage that Stripe may or may not have.",
        lambda found: found.uncertain,
    ),
    (
        "billhook_usage_error_reports",
        "Events of the last 30 days in which Stripe reports usage that it could not count.",
        lambda found: found.error_reports,
    ),
)


@dataclass(eq=False, slots=True)
class _Usage(Collector):
    found: Sequence[UsageState]

    def collect(self) -> Iterator[Metric]:
        for name, meaning, value_of in _USAGE:
            gauge = GaugeMetricFamily(name, meaning, labels=["environment"])
            for each in self.found:
                gauge.add_metric([each.environment], value_of(each))
            yield gauge


@router.get("/metrics", responses=_TEXT | errors(400, 401, 403, 503))
async def metrics(services: ServicesOf) -> Response:
    """Get metrics in the Prometheus text format. The scraper needs an admin key as its bearer
    token."""
    scrape = CollectorRegistry()
    scrape.register(_Mirror([await mirror_status(services.database, e) for e in ENVIRONMENTS]))
    scrape.register(_Usage([await usage_state(services.database, e) for e in ENVIRONMENTS]))
    # With several workers, each scrape would reach a different one.
    if multiprocessing.parent_process() is None:
        scrape.register(services.metrics.registry)
    return Response(generate_latest(scrape), media_type=CONTENT_TYPE_PLAIN_0_0_4)
