"""How the mirror follows Stripe (beyond the contract)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from billhook.models.queries import Query
from billhook.models.wire import Timestamp, WireModel
from billhook.settings import Environment


class AwaitQuery(Query):
    """Query of `GET …/checkout-sessions/{id}`: how many seconds to wait for its end."""

    wait: Annotated[float, Field(ge=0, le=30)] = 0


class Gap(WireModel):
    """A time whose events Stripe no longer listed when it was asked."""

    since: Timestamp
    until: Timestamp


class MirrorStatus(WireModel):
    """How the mirror of one environment follows Stripe.

    Attributes:
        lag_seconds: from the newest event that is applied to the newest that Stripe has, as of
            `pulled_at`; null before Stripe was asked for the first time.
        pulled_at: when Stripe's event list was read last; `pull_error` says why not since.
        failed_events: that wait for another try, or for a person.
        dead_letters: those of them that are only tried again when they are replayed.
        next_retry_at: when the next failed event is tried again.
        objects_to_refresh: that are queued to be fetched from Stripe.
        verified_at: when the mirror was compared with Stripe last; null before the first time.
        drifting_objects: how many differed then and were not fixed; null before the first time.
        gap: the last one that there was; a sync fixed the mirror, not the payments.
    """

    environment: Environment
    lag_seconds: int | None
    newest_event_at: Timestamp | None
    applied_event_at: Timestamp | None
    pulled_at: Timestamp | None
    pull_error: str | None
    failed_events: int
    dead_letters: int
    next_retry_at: Timestamp | None
    objects_to_refresh: int
    verified_at: Timestamp | None
    drifting_objects: int | None
    gap: Gap | None


class MirrorStatusResponse(WireModel):
    """200 of `GET …/mirror`."""

    mirror: MirrorStatus
