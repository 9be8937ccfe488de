"""The state of the mirror (beyond the contract)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from billhook.models.queries import Query
from billhook.models.wire import Timestamp, WireModel
from billhook.settings import Environment


class AwaitQuery(Query):
    """Query of `GET …/checkout-sessions/{id}`: how many seconds to wait for its end."""

    wait: Annotated[float, Field(ge=0, le=30)] = 0


class Gap(WireModel):
    """A period whose events Stripe no longer lists."""

    since: Timestamp
    until: Timestamp


class MirrorStatus(WireModel):
    """The state of one environment's mirror.

    Attributes:
        lag_seconds: time between the newest applied event and Stripe's newest event, as of
            `pulledAt`; null before the first pull.
        pulled_at: when Stripe's event list was last read. `pullError` says why reading it has
            failed since then.
        failed_events: the number of failed events, whether they are retried automatically or not.
        dead_letters: the number of failed events that are no longer retried automatically.
        next_retry_at: when the next failed event will be retried.
        objects_to_refresh: the number of objects that are queued for refresh.
        verified_at: when the mirror was last compared with Stripe; null if it never was.
        drifting_objects: the number of objects that differed and were not repaired; null if the
            mirror was never compared.
        history: whether the payments from before the connection were imported (`GET …/import`).
        history_since: everything that was created from then on was imported; null if nothing was.
        gap: the last gap. A sync updates the mirrored objects from this period, and an import adds
            its payments.
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
    history: Literal["none", "unfinished", "finished"]
    history_since: Timestamp | None


class MirrorStatusResponse(WireModel):
    """The 200 response of `GET …/mirror`."""

    mirror: MirrorStatus
