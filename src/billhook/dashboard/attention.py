"""What needs attention: each item says what is wrong and where to fix it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from billhook.models import Connection, MirrorStatus
from billhook.policies import SessionTable
from billhook.settings import Settings

_LATE = 60
"""Seconds behind Stripe from which on somebody should know."""


@dataclass(frozen=True, slots=True)
class Item:
    """`path` leads to the page of the environment where it can be fixed."""

    tone: Literal["bad", "wait"]
    text: str
    action: str
    path: str


def items(
    settings: Settings,
    connection: Connection,
    mirror: MirrorStatus,
    tables: Sequence[SessionTable],
) -> list[Item]:
    """The worst first; empty when all is well."""
    found = [*_connection(settings, connection), *_mirror(mirror)]
    if connection.masked_key is not None:
        found += _policies(tables)
    return sorted(found, key=lambda each: each.tone != "bad")


def _connection(settings: Settings, connection: Connection) -> Iterator[Item]:
    if connection.masked_key is None:
        text = "No Stripe key is set, so nothing can be sold."
        yield Item("wait", text, "Set a key", "/settings")
        return
    if connection.last_sync_status == "failed":
        text = f"The last sync failed: {connection.last_sync_error or 'no reason is known'}"
        yield Item("bad", text, "Look at the sync", "/settings#sync")
    if settings.public_url is not None and connection.webhook_endpoint_id is None:
        text = "There is no managed webhook endpoint, though this Billhook has a public address."
        yield Item("wait", text, "Set it up", "/settings#endpoint")


def _mirror(mirror: MirrorStatus) -> Iterator[Item]:
    if mirror.dead_letters:
        text = f"{_events(mirror.dead_letters)} given up after the last attempt."
        yield Item("bad", text, "See dead letters", "/events?deadLetter=true")
    waiting = mirror.failed_events - mirror.dead_letters
    if waiting > 0:
        text = f"{_events(waiting)} failing and will be tried again."
        yield Item("bad", text, "See why", "/events?status=failed")
    if mirror.pull_error is not None:
        text = f"Stripe's event list cannot be read: {mirror.pull_error}"
        yield Item("bad", text, "Look at the settings", "/settings")
    if (mirror.lag_seconds or 0) > _LATE:
        text = f"The mirror is {mirror.lag_seconds:,} seconds behind Stripe."
        yield Item("wait", text, "Look at the events", "/events")
    if mirror.drifting_objects:
        text = f"{mirror.drifting_objects:,} objects differed from Stripe when they were compared."
        yield Item("bad", text, "See which", "/settings#verify")
    if mirror.gap is not None:
        text = "There is a time whose events Stripe no longer listed; payments of then may lack."
        yield Item("wait", text, "Compare with Stripe", "/settings#verify")


def _policies(tables: Sequence[SessionTable]) -> Iterator[Item]:
    for table in tables:
        if table.problem is not None:
            yield Item("wait", table.problem, "See policies", "/settings#policies")


def _events(number: int) -> str:
    return f"{number:,} event is" if number == 1 else f"{number:,} events are"
