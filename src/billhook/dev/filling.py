"""`--with-history`: a new state folder gets a year of history, once.

The sandbox is filled before the API starts. Then the year's events are applied as if they had been
delivered when they happened. A file in the folder stores the stage, so that an interrupted run
continues there.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import orjson

from billhook.account.endpoint_events import received
from billhook.dev.history import YEAR, live_a_year
from billhook.dev.state import Stage, State
from billhook.ledger import decode
from billhook.mirror import event_list
from billhook.services import Services

_AT_ONCE = 500
"""Events submitted at once. Events of one customer are applied one after another, so this is more
than one batch."""

# As if they had been delivered when they happened: the list of events is in that order.
_RECEIVED_THEN = """
UPDATE payments.webhook_events AS e
SET received_at = at, processed_at = at, created_at = at
FROM (SELECT id, pg_catalog.to_timestamp((payload ->> 'created'::text)::float8) AS at
      FROM payments.webhook_events
      WHERE environment = 'test' AND provider_event_id = ANY ($1::text[])) AS happened
WHERE e.id = happened.id
"""
# A verification compares payments from then on.
_CONNECTED_SINCE = """
UPDATE billhook.pulls SET since = pg_catalog.to_timestamp($1::bigint) WHERE environment = 'test'
"""


class Filling:
    """The history of one state folder.

    Attributes:
        data: the sandbox's file.

    Args:
        wanted: whether a new folder gets one.
    """

    def __init__(self, state: State, data: Path, *, wanted: bool) -> None:
        self.data = data
        self._state = state
        stage = state.history_stage()
        if stage == "sandbox":  # interrupted
            for each in data.parent.glob(f"{data.name}*"):
                each.unlink()
            stage = None
        if stage is None and wanted and not data.exists():
            stage = "sandbox"
        self._stage: Stage | None = stage
        state.write_history_stage(stage)

    @property
    def begin_ago(self) -> int:
        """Seconds by which the sandbox's clock is to be behind real time."""
        return YEAR if self._stage == "sandbox" else 0

    async def fill_sandbox(self, url: str, key: str) -> None:
        """Before the API starts: simulate a year in the sandbox."""
        if self._stage == "sandbox":
            await live_a_year(url, key)
            self._reached("mirror")

    async def fill_mirror(self, url: str, key: str, services: Services) -> None:
        """When the API is connected: sync, and apply the events of the year.

        Raises:
            EventNotApplied, EventNotRecorded: a trigger of the app rejects an event. The start
            stops; the next run continues here.
            DatabaseUnavailable: PostgreSQL is unavailable.
        """
        if self._stage != "mirror":
            return
        await services.sync.run("test")
        found = event_list.applicable(
            "test", await received(services.database, "test"), await _events(url, key)
        )
        for start in range(0, len(found), _AT_ONCE):
            some = [decode(orjson.dumps(each)) for each in found[start : start + _AT_ONCE]]
            await asyncio.gather(*(services.ledger.record("test", each) for each in some))
        async with services.database.as_service() as connection:
            await connection.execute(_RECEIVED_THEN, [each["id"] for each in found])
            await connection.execute(_CONNECTED_SINCE, found[0]["created"])
        self._reached("done")

    def _reached(self, stage: Stage) -> None:
        self._stage = stage
        self._state.write_history_stage(stage)


async def _events(url: str, key: str) -> list[dict[str, Any]]:
    """All events of the sandbox, oldest first; its API only lists the last 30 days."""
    async with httpx.AsyncClient(base_url=url, timeout=120) as http:
        answer = await http.get("/_sandbox/dump", params={"key": key})
    answer.raise_for_status()
    found = [orjson.loads(line)["object"] for line in answer.content.splitlines()]
    return [each for each in found if each["object"] == "event"]
