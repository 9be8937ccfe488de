"""Facts of Stripe → rows, in the caller's transaction: lock and load, reduce, save."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
import orjson

from billhook.errors import DatabaseBusy, ObjectLocked
from billhook.postgres import Connection
from billhook.projections.changes import Changes, Event
from billhook.reducers.missing import Missing
from billhook.reducers.payments import Payment
from billhook.reducers.reduce import State, reduce_event
from billhook.rows.loading import Wanted, payments_of, state_of
from billhook.rows.saving import Rows, rows_of
from billhook.settings import Environment

T = TypeVar("T")

_LOAD = "SELECT {}.load_batch($1, $2::text::jsonb)::text"
_SAVE = "SELECT {}.save_rows($1, $2::text::jsonb, $3::text[]::jsonb[], '{{}}'::text[])"


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Tables other than the live ones, which nobody else writes, so nothing is locked.

    Attributes:
        schema: where `load_batch` and `save_rows` are, and the tables that they work on.
        payment_ids: numbers for new payments, ascending.
    """

    schema: str
    payment_ids: Iterator[int]


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
) -> None:
    """Write what follows from facts, without recording them in the ledger.

    Args:
        outside_ledger: the facts are in no event of the ledger. A rebuild keeps their rows.
        elsewhere: write to other tables than the live ones.

    Raises:
        asyncpg.PostgresError: nothing was done; most likely the app's trigger raised an error.
    """
    if not facts:
        return
    wanted = Wanted(environment)
    for fact in facts:
        wanted.add(fact.changes)

    def reduce(state: State, _: dict[str, Any]) -> None:
        for number, fact in enumerate(facts, start=1):
            reduce_event(state, fact.event, fact.changes, number)

    _, rows = await reduced(
        connection, wanted, reduce, outside_ledger=outside_ledger, elsewhere=elsewhere
    )
    if rows:
        documents = [orjson.dumps(fact.event.object).decode() for fact in facts]
        save = _SAVE.format(elsewhere.schema if elsewhere else "billhook")
        await connection.execute(save, environment, orjson.dumps(rows).decode(), documents)


async def payments_with(
    connection: Connection, environment: Environment, object_type: str, ids: Iterable[str]
) -> dict[str, Payment]:
    """The known facts of the payments that objects of one type belong to, by the objects' ids."""
    refs = [{"type": object_type, "id": each} for each in ids]
    asked = orjson.dumps({"refs": refs, "new_payments": 0}).decode()
    loaded = orjson.loads(await connection.fetchval(_LOAD.format("billhook"), environment, asked))
    known = payments_of(loaded["payments"]).by_ref
    return {of_id: payment for (of_type, of_id), payment in known.items() if of_type == object_type}


async def reduced(
    connection: Connection,
    wanted: Wanted,
    reduce: Callable[[State, dict[str, Any]], T],
    *,
    outside_ledger: bool = False,
    elsewhere: Elsewhere | None = None,
) -> tuple[T, Rows]:
    """Lock and load the wanted rows, and reduce. A rule that needs something rare costs another
    load.

    Args:
        reduce: changes the state, given also what was loaded. It may be called several times.

    Returns:
        What `reduce` returned, and the rows to save.

    Raises:
        DatabaseBusy: somebody holds a lock for too long. No code of the app runs here.
    """
    load = _LOAD.format(elsewhere.schema if elsewhere else "billhook")
    held: frozenset[int] = frozenset()
    while True:
        asked = wanted.as_json(held)
        if elsewhere is not None:
            del asked["locks"]
            asked["new_payments"] = 0
        text = orjson.dumps(asked).decode()
        loaded = orjson.loads(await _load(connection, load, wanted.environment, text))
        held |= frozenset(wanted.lock_keys())
        try:
            state = state_of(loaded, wanted)
            if elsewhere is not None:
                state.payments.spare_ids = [
                    next(elsewhere.payment_ids) for _ in range(wanted.new_payments)
                ][::-1]
            result = reduce(state, loaded)
            return result, rows_of(state, outside_ledger=outside_ledger)
        except Missing as missing:
            wanted.add_missing(missing)


async def _load(connection: Connection, load: str, environment: Environment, asked: str) -> Any:
    try:
        return await connection.fetchval(load, environment, asked)
    except asyncpg.LockNotAvailableError as error:
        raise ObjectLocked(
            "Another transaction has locked the same object, customer or subject for more than "
            f"five seconds ({error.args[0]}). Nothing was changed; try again.",
            next_actions="If the process is not one of Billhook's, end it. The locks are listed in "
            "pg_locks (locktype = 'advisory').",
        ) from error
    except TimeoutError as error:
        raise DatabaseBusy(
            "PostgreSQL did not answer in time: the ledger is locked by a rebuild, an archive or "
            "another transaction, or the server is overloaded. Nothing was changed; try again.",
            next_actions="Retry when it has ended: it is listed in pg_locks (relation = "
            "'payments.webhook_events'::regclass).",
        ) from error
