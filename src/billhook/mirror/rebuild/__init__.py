"""`billhook rebuild`: recreates every projected row from the ledger, without calling Stripe.

Fresh tables are filled by the same functions that the event path uses (`fresh.py`), from data that
no event contains and from every event (`replay.py`), and compared with the live rows
(`comparison.py`). It is one transaction. Without a swap, it reads one snapshot of the database, and
PostgreSQL allows it to write only to its own temporary tables. With a swap, events continue to
arrive while the ledger is read; writers wait only for the final read, the comparison and the swap.
"""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import structlog

from billhook.mirror.rebuild import comparison, fresh
from billhook.mirror.rebuild.replay import Replay
from billhook.models import RebuildOrder, Rebuilt, RebuiltTable
from billhook.postgres import COLLISIONS, LONG_PATIENCE, Connection, Database
from billhook.postgres.accounts import connected_account
from billhook.postgres.leases import Busy, try_lease
from billhook.postgres.refusals import replacing_rows
from billhook.settings import Environment

log = structlog.get_logger(__name__)

_ATTEMPTS = 10

# Only while the tables are filled: they have no statistics yet, and every lookup of the event path
# has its index. JIT compilation never pays off in a rebuild.
_FILLING = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off"
_COMPARING = "SET LOCAL enable_seqscan = on"
_ONLY_READ = "SET TRANSACTION READ ONLY"
# The ledger first, as an event's transaction does.
_LOCK = f"""
LOCK TABLE payments.webhook_events, {", ".join(fresh.TABLES)} IN SHARE ROW EXCLUSIVE MODE
"""


async def rebuild(database: Database, environment: Environment, order: RebuildOrder) -> Rebuilt:
    """Recreate an environment's rows from its ledger, compare, and swap on request.

    Raises:
        Busy: a rebuild of this environment is running, or another account was connected meanwhile.
        DatabaseRefused: a rule of the app (a foreign key, a trigger) rejected the swap; nothing was
            changed.
        DatabaseUnavailable: PostgreSQL is unavailable; nothing was changed.
    """
    async with try_lease(database, f"rebuild:{environment}") as lease:
        if lease is None:
            raise Busy(
                f"A rebuild of {environment} is already running.",
                next_actions="Wait for it to end, and try again.",
            )
        with replacing_rows("The live rows could not be replaced"):
            return await _rebuild(database, environment, swap=order.swap)


async def _rebuild(database: Database, environment: Environment, *, swap: bool) -> Rebuilt:
    started_at = datetime.now(UTC)
    async with database.as_service("read_committed" if swap else "repeatable_read") as connection:
        account = await connected_account(connection, environment)
        replay = await _begun(connection, environment, read_only=not swap)
        if swap:
            await hold_writers(connection)
            if await connected_account(connection, environment) != account:
                raise Busy(
                    "Another Stripe account was connected during the rebuild. Nothing was swapped.",
                    next_actions="Run it again for the account that is connected.",
                )
            await replay.run()  # events that arrived in the meantime
        compared = await _compared(connection, environment, swap=swap)
    found = Rebuilt(
        environment=environment,
        started_at=started_at,
        finished_at=datetime.now(UTC),
        events=replay.events,
        skipped=replay.skipped,
        tables=compared,
        swapped=swap,
    )
    log.info(
        "the mirror was rebuilt",
        environment=environment,
        events=found.events,
        differing={each.table: each.different for each in compared if each.different},
        swapped=swap,
    )
    return found


async def rebuild_in(connection: Connection, environment: Environment, *, archive: UUID) -> None:
    """Rebuild an environment's rows and replace them, in the caller's transaction, which blocks
    writers (`hold_writers`).

    Args:
        archive: its rows are facts as well.
    """
    replay = await _begun(connection, environment)
    await replay.run_archive(archive)
    await _compared(connection, environment, swap=True)
    for each in replay.skipped:
        log.warning(
            "an event could not be applied again", event_id=each.event_id, reason=each.reason
        )


async def hold_writers(connection: Connection) -> None:
    """Block writers from here to the end of the transaction. Readers are not blocked."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            async with connection.transaction():  # a savepoint: retries don't repeat the rebuild
                await connection.execute(_LOCK, timeout=LONG_PATIENCE)
        except COLLISIONS:
            if attempt == _ATTEMPTS:
                raise
        else:
            return


async def _begun(
    connection: Connection, environment: Environment, *, read_only: bool = False
) -> Replay:
    """Make the fresh tables and fill them."""
    tables = await fresh.make(connection)
    if read_only:
        await connection.execute(_ONLY_READ)
    await connection.execute(_FILLING)
    replay = Replay(connection, environment, tables)
    await replay.run()
    return replay


async def _compared(
    connection: Connection, environment: Environment, *, swap: bool
) -> list[RebuiltTable]:
    """Compare the filled tables with the live ones, and swap rows that differ on request."""
    await connection.execute(_COMPARING)
    compared = await comparison.compare(connection, environment)
    if swap:
        differing = frozenset(each.table for each in compared if each.different)
        await comparison.swap(connection, environment, differing)
        await fresh.drop(connection)
    return compared
