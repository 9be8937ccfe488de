"""Writes the rows that follow from facts of Stripe, without recording them in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from billhook.postgres import Connection
from billhook.projections.changes import Changes, Event
from billhook.reducers.reduce import State, reduce_events
from billhook.rows.loading import Elsewhere, Wanted, load_and_reduce
from billhook.rows.saving import Rows, documents_of
from billhook.settings import Environment

_SAVE = "SELECT {}.save_rows($1, $2::text::jsonb, $3::text[]::jsonb[], '{{}}'::text[])"


@dataclass(frozen=True, slots=True)
class Fact:
    """The content of an event, or a fetched object in the form of an event.

    Attributes:
        event: its id is empty for a fetched object.
    """

    event: Event
    changes: Changes


async def apply_facts(
    connection: Connection,
    environment: Environment,
    facts: Sequence[Fact],
    *,
    outside_ledger: bool,
    elsewhere: Elsewhere | None = None,
    queue: bool = True,
) -> Rows:
    """Write what follows from facts, without recording them in the ledger.

    Args:
        outside_ledger: the facts are in no event of the ledger. A rebuild keeps their rows.
        elsewhere: write to other tables than the live ones.
        queue: queue for refresh what the facts leave open.

    Returns:
        The rows that were written, by table.

    Raises:
        asyncpg.PostgresError: nothing was done; most likely the app's trigger raised an error.
    """
    if not facts:
        return {}
    wanted = Wanted(environment)
    for fact in facts:
        wanted.add(fact.changes)

    def reduce(state: State, _: dict[str, Any]) -> None:
        reduce_events(state, ((fact.event, fact.changes) for fact in facts))

    _, rows = await load_and_reduce(
        connection, wanted, reduce, outside_ledger=outside_ledger, elsewhere=elsewhere
    )
    if not queue:
        rows.pop("refreshes", None)
    if rows:
        used = documents_of(rows)
        documents = [
            orjson.dumps(fact.event.object).decode() if number in used else None
            for number, fact in enumerate(facts, start=1)
        ]
        save = _SAVE.format(elsewhere.schema if elsewhere else "billhook")
        await connection.execute(save, environment, orjson.dumps(rows).decode(), documents)
    return rows
