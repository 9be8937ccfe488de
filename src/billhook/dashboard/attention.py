"""What needs attention: each item says what is wrong and where to fix it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from billhook.access.policies import SessionTable
from billhook.models import Connection, MirrorStatus
from billhook.settings import Settings

_LATE = 60
"""Lag in seconds above which the overview shows a warning."""


Tone = Literal["bad", "wait"]


@dataclass(frozen=True, slots=True)
class Item:
    """`path` leads to the page of the environment where it can be fixed."""

    tone: Tone
    text: str
    action: str
    path: str


def items(
    settings: Settings,
    connection: Connection,
    mirror: MirrorStatus,
    tables: Sequence[SessionTable],
    *,
    is_new: bool,
) -> list[Item]:
    """The most severe first; empty if there is nothing.

    Args:
        is_new: whether `first_steps` says what has not been set up.
    """
    found = [*_connection(settings, connection), *_mirror(mirror)]
    if not is_new:
        found += _set_up(connection, tables)
    return sorted(found, key=lambda each: each.tone != "bad")


def _connection(settings: Settings, connection: Connection) -> Iterator[Item]:
    if connection.masked_key is None:
        return
    if connection.last_sync_status == "failed":
        text = f"The last sync failed: {connection.last_sync_error or 'unknown reason'}"
        yield Item("bad", text, "View sync", "/settings#sync")
    if settings.reachable_url is not None and connection.webhook_endpoint_id is None:
        text = "There is no managed webhook endpoint, although a public URL is set."
        yield Item("wait", text, "Set up endpoint", "/settings#endpoint")


def _mirror(mirror: MirrorStatus) -> Iterator[Item]:
    if mirror.dead_letters:
        text = f"{_events(mirror.dead_letters)} no longer retried, because the last attempt failed."
        yield Item("bad", text, "View dead letters", "/events?deadLetter=true")
    waiting = mirror.failed_events - mirror.dead_letters
    if waiting > 0:
        text = f"{_events(waiting)} failing and will be retried."
        yield Item("bad", text, "View events", "/events?status=failed")
    if mirror.pull_error is not None:
        text = f"Stripe's event list cannot be read: {mirror.pull_error}"
        yield Item("bad", text, "View connection", "/settings")
    if (mirror.lag_seconds or 0) > _LATE:
        text = f"The mirror is {mirror.lag_seconds:,} seconds behind Stripe."
        yield Item("wait", text, "View events", "/events")
    if mirror.drifting_objects:
        text = f"{mirror.drifting_objects:,} objects differed from Stripe at the last verification."
        yield Item("bad", text, "View objects", "/settings/mirror#verify")
    if mirror.gap is not None:
        text = "Stripe no longer lists some missed events. Payments from that time may be missing."
        yield Item("wait", text, "Verify", "/settings/mirror#verify")


def _set_up(connection: Connection, tables: Sequence[SessionTable]) -> Iterator[Item]:
    if connection.masked_key is None:
        text = "No Stripe key is set, so nothing can be sold."
        yield Item("bad", text, "Set a key", "/settings")
    for table in tables:
        if table.problem is not None:
            yield Item(
                "wait" if table.is_on else "bad",
                table.problem,
                "View policies",
                "/settings/policies",
            )


def _events(number: int) -> str:
    return f"{number:,} event is" if number == 1 else f"{number:,} events are"
