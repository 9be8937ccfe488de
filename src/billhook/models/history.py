"""The import of an account's history (docs/explanation/history.md)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from billhook.models.wire import Request, Timestamp, WireModel, without_null
from billhook.settings import Environment

_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)")


def _day_or_time(value: object) -> datetime:
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
        if isinstance(value, str) and _TIME.fullmatch(value):
            return datetime.fromisoformat(value).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise PydanticCustomError(
        "moment", "must be a day such as 2026-05-28, or a time such as 2026-05-28T20:26:42Z"
    )


class ImportOrder(Request):
    """Body of `POST …/import`; optional.

    Attributes:
        since: import what was created on or after this day (UTC) or time; if omitted, everything.
    """

    since: (
        Annotated[
            datetime,
            BeforeValidator(_day_or_time),
            WithJsonSchema({"type": "string", "examples": ["2024-01-01"]}),
        ]
        | None
    ) = Field(None, json_schema_extra=without_null)


class ImportedList(WireModel):
    """How far the import of one of Stripe's lists has progressed.

    Attributes:
        read: the number of objects that were read.
        written: the number of facts that were new.
        reached: everything created since then has been read; null before the first page.
        done: whether the list has been read completely.
    """

    name: str
    read: int
    written: int
    reached: Timestamp | None
    done: bool


class ImportProgress(WireModel):
    """The running or last import of one environment.

    Attributes:
        status: `none` if no import has started yet, `running`, `waiting` if it continues later,
            `finished`.
        since: what was created since then is imported; null: everything.
        complete_since: everything that was created since then has been imported, and is
            verified; null if no import has finished. The earliest value is 2011.
        skipped: the number of facts that could not be written, because a rule of the app, such as
            a trigger, rejected their rows.
        objects_per_second: the rate since the import last started or continued, while it runs.
        remaining_seconds: a rough estimate, while it runs; null if it is not possible.
        error: why it is waiting, or why the last skipped object was rejected.
        retry_at: when it continues after an error; null if it is not waiting after an error.
    """

    environment: Environment
    status: Literal["none", "running", "waiting", "finished"]
    since: Timestamp | None
    started_at: Timestamp | None
    finished_at: Timestamp | None
    complete_since: Timestamp | None
    lists: list[ImportedList]
    skipped: int
    objects_per_second: float | None
    remaining_seconds: int | None
    error: str | None
    retry_at: Timestamp | None
