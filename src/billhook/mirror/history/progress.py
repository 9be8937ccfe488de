"""How far an import is: what its ranges say."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Literal

import asyncpg

from billhook.mirror.history import ranges
from billhook.mirror.history.lists import LISTINGS
from billhook.mirror.history.ranges import Range
from billhook.mirror.sync.ranges import OLDEST
from billhook.models import ImportedList, ImportProgress
from billhook.postgres import Database
from billhook.settings import Environment

_LEASED = """
SELECT EXISTS (SELECT FROM billhook.leases WHERE name = $1 AND until > now()) AS running,
    now() AS at
"""


async def progress(database: Database, environment: Environment) -> ImportProgress:
    """The progress of the running import of `environment`, or of the last one."""
    async with database.connection() as connection:
        found = await ranges.find(connection, environment)
        parts = await ranges.ranges_of(connection, environment)
        now = await connection.fetchrow(_LEASED, ranges.lease_name(environment))
    assert now is not None
    running = bool(now["running"]) and found is not None and found["finished_at"] is None
    rate = _rate(found, parts, now["at"]) if running and found is not None else None
    return ImportProgress(
        environment=environment,
        status=_status(found, running=running),
        since=_time(found["since"]) if found and found["since"] > OLDEST else None,
        started_at=found["started_at"] if found else None,
        finished_at=found["finished_at"] if found else None,
        complete_since=_time(found["complete_from"]) if found else None,
        lists=[_list(name, [each for each in parts if each.of == name]) for name in LISTINGS],
        skipped=found["skipped"] if found else 0,
        objects_per_second=rate,
        remaining_seconds=_remaining(found, parts, rate) if found and rate else None,
        error=found["error"] if found else None,
        retry_at=found["retry_at"] if found and not running else None,
    )


def _status(
    found: asyncpg.Record | None, *, running: bool
) -> Literal["none", "running", "waiting", "finished"]:
    if found is None:
        return "none"
    if found["finished_at"] is not None:
        return "finished"
    return "running" if running else "waiting"


def _time(at: int | None) -> datetime | None:
    return None if at is None else datetime.fromtimestamp(at, UTC)


def _list(name: str, parts: Sequence[Range]) -> ImportedList:
    done = bool(parts) and all(each.done for each in parts)
    open_at = [each.reached for each in parts if not each.done]
    reached = max(open_at, default=min((each.since for each in parts), default=0))
    read = sum(each.objects for each in parts)
    return ImportedList(
        name=name,
        read=read,
        written=sum(each.written for each in parts),
        reached=_time(reached) if read or done else None,
        done=done,
    )


def _rate(found: asyncpg.Record, parts: Sequence[Range], now: datetime) -> float | None:
    if found["resumed_at"] is None:
        return None
    seconds = (now - found["resumed_at"]).total_seconds()
    read = sum(each.objects for each in parts) - found["resumed_read"]
    return round(read / seconds, 1) if seconds > 0 and read > 0 else None


def _remaining(found: asyncpg.Record, parts: Sequence[Range], rate: float) -> int | None:
    """Seconds, if what remains is as dense as what was read, and begins with the customers."""
    begins, upto = found["begins"], found["upto"]
    if begins is None or upto is None:
        return None
    begins = max(begins, found["since"])
    objects = 0.0
    for name in LISTINGS:
        of_list = [each for each in parts if each.of == name]
        left = sum(max(0, e.reached - max(e.since, begins)) for e in of_list if not e.done)
        covered = upto - begins - left
        if covered > 0:
            objects += sum(each.objects for each in of_list) * left / covered
    return round(objects / rate)
