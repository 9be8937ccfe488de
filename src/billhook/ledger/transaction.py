"""One transaction for a batch of events: lock and load, reduce, save and mark
(docs/explanation/ordering.md).

Four round trips, however many events: BEGIN, load, save, COMMIT. A rule that needs something
rare costs another load.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from billhook.errors import PaymentConfigInvalid
from billhook.ledger.delivery import Delivery
from billhook.ledger.silencing import silenced_triggers
from billhook.postgres import Connection
from billhook.projections.changes import Changes
from billhook.reducers.reduce import State, reduce_events
from billhook.rows.loading import Wanted, load_and_reduce
from billhook.rows.saving import Rows
from billhook.settings import Environment

_SAVE = """
SELECT saved.*, CASE WHEN saved.number = 1 THEN billhook.reset_session() END
FROM billhook.save_batch($1, $2, $3::text[]::uuid[], $4, $5, $6, $7, $8,
    $9::text[]::jsonb[], $10, $11, $12::text::jsonb) AS saved
"""
_RESET = "SELECT billhook.reset_session()"  # `_SAVE` does it, too
_ARCHIVED_AFTER = 30 * 86400 - 3600
"""Seconds after which an event may have moved from the ledger to the archive."""


@dataclass(frozen=True, slots=True)
class Work:
    """An event to be applied.

    Attributes:
        failure: why it could not be applied before; it is then recorded as `failed`.
    """

    delivery: Delivery
    changes: Changes
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """The ledger's row of an event, and its outcome.

    Attributes:
        handled: the event was applied now, and changed something.
        spent: seconds that marking it took, mostly in the app's triggers.
    """

    handled: bool
    processing_status: str
    attempt_count: int
    last_error: str | None
    received_at: datetime
    processed_at: datetime | None
    created_at: datetime
    updated_at: datetime
    spent: float = 0.0


class OtherAccount(PaymentConfigInvalid):
    """409: an event belongs to a Stripe account that is not connected. It was not applied."""

    status = 409

    def __init__(self, event_id: str, account: str, connected: str) -> None:
        super().__init__(
            f"Event {event_id} belongs to Stripe account {account}, but {connected or 'none'} is "
            "connected. It was not applied.",
            next_actions=f"To apply it, connect {account} again and restore its archive: "
            f"`billhook archive list`. If an endpoint of {account} still sends events here, "
            "disable it in Stripe. If the endpoint is not of that account, roll its signing secret "
            "in Stripe and set the new one.",
        )
        self.account = account


FINISHED = ("processed", "ignored")


async def apply_batch(
    connection: Connection,
    environment: Environment,
    batch: Sequence[Work],
    *,
    silently: bool = False,
) -> list[Entry]:
    """Apply events in the caller's transaction, and reset its session.

    Args:
        silently: without the app's triggers on the ledger. They are disabled only when everything
            else is locked: other transactions lock in this order, too.

    Returns:
        The entry of each, in order.

    Raises:
        OtherAccount: one of them belongs to an account that is not connected.
        asyncpg.PostgresError: nothing was done; most likely the app's trigger raised an error.
    """

    def reduce(state: State, loaded: Mapping[str, Any]) -> _Reduced:
        known = _known(loaded)
        todo = _unfinished(batch, known, loaded["account"])
        applied = reduce_events(state, ((work.delivery.event, work.changes) for work in todo))
        marks = [
            "failed" if work.failure else "processed" if ours else "ignored"
            for work, ours in zip(todo, applied, strict=True)
        ]
        return _Reduced(known, todo, marks)

    result, rows = await load_and_reduce(connection, _wanted(environment, batch), reduce)
    known = result.known
    saved = {}
    if result.todo:
        async with silenced_triggers(connection) if silently else nullcontext():
            saved = await _save(connection, environment, result, rows)
    else:
        await connection.execute(_RESET)
    entries = []
    for work in batch:
        event_id = work.delivery.event.id
        # If an event is repeated, only its first delivery counts as handled.
        entry = saved.get(event_id) or known[event_id].entry
        entries.append(entry)
        if entry.handled:
            saved[event_id] = replace(entry, handled=False)
    return entries


@dataclass(slots=True)
class _Known:
    """An event that is already in the ledger or the archive.

    Attributes:
        other: the account that it belongs to, if that is not the connected one.
    """

    row_id: str | None
    entry: Entry
    other: str | None = None


def locks_of(environment: Environment, work: Work) -> frozenset[str]:
    """The keys to lock while an event is applied."""
    return frozenset(_wanted(environment, [work]).locks)


def _wanted(environment: Environment, batch: Sequence[Work]) -> Wanted:
    wanted = Wanted(environment)
    archived_before = time.time() - _ARCHIVED_AFTER
    for work in batch:
        event = work.delivery.event
        wanted.events.add(event.id)
        wanted.locks.add(f"event:{event.id}")
        if event.created < archived_before:
            wanted.old_events.add(event.id)
        wanted.add(work.changes)
    return wanted


@dataclass(frozen=True, slots=True)
class _Reduced:
    """The events that are to be saved, and the mark of each."""

    known: dict[str, _Known]
    todo: list[Work]
    marks: list[str]


def _known(loaded: Mapping[str, Any]) -> dict[str, _Known]:
    known = {}
    for event_id, content in loaded["rows"]["archived"] or ():
        columns = [content[name] for name in _COLUMNS]
        known[event_id] = _Known(None, _entry_of(columns))
    for event_id, row_id, *columns, other in loaded["rows"]["ledger"] or ():
        known[event_id] = _Known(row_id, _entry_of(columns), other)
    return known


_COLUMNS = (
    "processing_status", "attempt_count", "last_error", "received_at", "processed_at",
    "created_at", "updated_at",
)  # fmt: skip


def _entry_of(columns: Sequence[Any]) -> Entry:
    status, attempts, error, *times = columns
    received, processed, created, updated = (
        datetime.fromisoformat(each) if each else None for each in times
    )
    assert received is not None
    assert created is not None
    assert updated is not None
    return Entry(False, status, attempts, error, received, processed, created, updated)


def _unfinished(batch: Sequence[Work], known: Mapping[str, _Known], connected: str) -> list[Work]:
    """The events to apply: each once, and none that is already in its final state.

    Raises:
        OtherAccount: one of them belongs to another account than the connected one.
    """
    todo: dict[str, Work] = {}
    for work in batch:
        event_id = work.delivery.event.id
        found = known.get(event_id)
        if found and (found.row_id is None or found.entry.processing_status in FINISHED):
            continue
        for account in (work.delivery.verified_for, found.other if found else None):
            if account not in (None, connected):
                raise OtherAccount(event_id, account, connected)
        todo.setdefault(event_id, work)
    return list(todo.values())


async def _save(
    connection: Connection,
    environment: Environment,
    result: _Reduced,
    rows: Rows,
) -> dict[str, Entry]:
    deliveries = [work.delivery for work in result.todo]
    before = [result.known.get(each.event.id) for each in deliveries]
    records = await connection.fetch(
        _SAVE,
        environment,
        environment == "live",
        [each.row_id if each else None for each in before],
        [each.event.id for each in deliveries],
        [each.event.type for each in deliveries],
        [each.account_id for each in deliveries],
        [each.object_type for each in deliveries],
        [each.object_id for each in deliveries],
        [each.payload for each in deliveries],
        result.marks,
        [work.failure for work in result.todo],
        orjson.dumps(rows).decode(),
    )
    saved = {}
    for delivery, (_, *columns, _) in zip(deliveries, records, strict=True):
        saved[delivery.event.id] = Entry(columns[0] == "processed", *columns)
    return saved
