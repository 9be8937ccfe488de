"""The metrics of an application, for Prometheus (docs/explanation/operations.md)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from billhook.settings import ENVIRONMENTS, Environment

_REQUEST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)
_LAG = (1, 2, 5, 10, 30, 60, 300, 1_800, 3_600, 21_600, 86_400)
_BATCH = (1, 2, 4, 8, 16, 32)


class Metrics:
    """The metrics of one application, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.webhook_seconds = Histogram(
            "billhook_webhook_request_seconds",
            "Duration of webhook requests, from their headers to the response.",
            ["environment", "outcome"],
            buckets=_REQUEST,
            registry=self.registry,
        )
        self.stripe_seconds = Histogram(
            "billhook_stripe_request_seconds",
            "Duration of requests to Stripe, with the retries of Stripe's SDK.",
            ["environment", "method", "outcome"],
            buckets=_REQUEST,
            registry=self.registry,
        )
        self.batch_events = Histogram(
            "billhook_batch_events",
            "Events that were applied in one transaction.",
            ["environment"],
            buckets=_BATCH,
            registry=self.registry,
        )
        self.queued_events = Gauge(
            "billhook_queued_events",
            "Events that wait for a transaction, or are in one.",
            ["environment"],
            registry=self.registry,
        )
        self._events = Counter(
            "billhook_events",
            "Events received, by their status in the ledger afterwards.",
            ["environment", "status"],
            registry=self.registry,
        )
        self._lag = Histogram(
            "billhook_event_lag_seconds",
            "Time between the creation of an event in Stripe and its changes in the mirror.",
            ["environment"],
            buckets=_LAG,
            registry=self.registry,
        )
        self.usage_rows = Counter(
            "billhook_usage_rows",
            "Rows of usage by what became of them: sent, failed, uncertain, or to be sent again.",
            ["environment", "outcome"],
            registry=self.registry,
        )
        for environment in ENVIRONMENTS:  # reported before the first event, too
            for metric in (self.batch_events, self.queued_events, self._lag):
                metric.labels(environment)

    def committed(self, environment: Environment, status: str, created: int | None) -> None:
        """Count an event whose transaction has committed.

        Args:
            created: when Stripe created it, in epoch seconds; None if it changed nothing now.
        """
        self._events.labels(environment, status).inc()
        if created is not None:
            self._lag.labels(environment).observe(max(0.0, time.time() - created))


@contextmanager
def timed(histogram: Histogram, *labels: str) -> Iterator[None]:
    """Observe how long the block takes; its outcome, the last label, is `ok`, or `error` if it
    raises."""
    began = time.perf_counter()
    outcome = "error"
    try:
        yield
        outcome = "ok"
    finally:
        histogram.labels(*labels, outcome).observe(time.perf_counter() - began)
