"""Cases: a few events of Stripe's with a known right outcome, played in every order.

The JSON files of `data/` hold rows of `[second, type, data.object, more]`, where `"@5"` stands for
five seconds after the start and `more` holds further top-level keys of the event.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from billhook.mirror.rebuild import rebuild
from billhook.models import RebuildOrder
from billhook.postgres import Database
from books import WIPE, Books, apply_one, state_of
from depth import by_depth
from stripe_events import T0, event

DATA = Path(__file__).with_name("data")
_FEW = by_depth(3, 4, 4)
_SHUFFLES = by_depth(3, 12, 12)

Events = list[dict[str, Any]]


def case(name: str) -> Events:
    """The events of `data/<name>.json`, in the order of the file."""
    told = orjson.loads((DATA / f"{name}.json").read_bytes())
    return [
        event(kind, _dated(stripe_object), at=at, id=f"evt_{name}_{number}", **_dated(more))
        for number, (at, kind, stripe_object, more) in enumerate(
            (*row, {})[:4] for row in told["events"]
        )
    ]


def orders(events: Events) -> Iterator[Events]:
    """Every order of a few events, or some of many; then each event twice, mixed."""
    if len(events) <= _FEW:
        yield from map(list, itertools.permutations(events))
    else:
        yield events
        yield events[::-1]
        for seed in range(_SHUFFLES):
            yield random.Random(seed).sample(events, len(events))
    for seed in range(2):
        yield random.Random(seed).sample(events * 2, len(events) * 2)
    yield [each for each in events for _ in range(2)]


def play(books: Books, events: Events) -> dict[str, list[str]]:
    """Apply the events in every order: each ends in the same rows, as does a rebuild from the
    ledger. The rows stay, and are returned as `books.final_state` gives them."""

    async def work(database: Database) -> dict[str, list[str]]:
        expected: dict[str, list[str]] = {}
        every = list(orders(events))
        for number, order in enumerate(every):
            async with database.connection() as connection:
                await connection.execute(WIPE)
            answers = [await apply_one(database, each) for each in order]
            assert [each for each in answers if isinstance(each, Exception)] == []
            found = await state_of(database)
            types = [each["type"] for each in order]
            assert not expected or found == expected, types
            expected = found
            if number not in (0, len(every) // 2, len(every) - 1):
                continue
            rebuilt = await rebuild(database, "test", RebuildOrder())
            assert not rebuilt.skipped, rebuilt.skipped
            differing = [
                (table.table, each) for table in rebuilt.tables for each in table.differences
            ]
            assert not differing, (types, differing)
        return expected

    return books.run(work)


def transactions(books: Books) -> list[dict[str, Any]]:
    """All transactions, payments before refunds, each sorted by the id of its object."""
    return books.rows(
        "SELECT * FROM payments.transactions ORDER BY type = 'refund', provider_object_id"
    )


def _dated(value: Any) -> Any:
    if isinstance(value, str) and value.startswith("@") and value[1:].lstrip("-").isdigit():
        return T0 + int(value[1:])
    if isinstance(value, list):
        return [_dated(entry) for entry in value]
    if isinstance(value, dict):
        return {key: _dated(entry) for key, entry in value.items()}
    return value
