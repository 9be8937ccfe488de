"""Writes the objects of a page as facts, and keeps for a rebuild what no event contains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import asyncpg
import orjson
import structlog

from billhook.errors import FAULTS, fault_of
from billhook.kinds.reading import StripeObject, UnreadableObject
from billhook.mirror.fetching import StripeReader
from billhook.mirror.history import ranges
from billhook.mirror.history.lists import Listing
from billhook.mirror.history.ranges import Range
from billhook.postgres import COLLISIONS, Connection, repeat_collisions
from billhook.postgres.refusals import reason_of
from billhook.projections.fetched import changes_of_fetched, kept, reported_by
from billhook.rows import Fact, apply_facts

log = structlog.get_logger(__name__)

# Tables that grow from nothing to millions of rows have no statistics yet.
_BY_KEY = "SET LOCAL enable_seqscan = off; SET LOCAL jit = off"
# These say nothing about the row: the same transaction may work later.
_PASSING = (*COLLISIONS, asyncpg.LockNotAvailableError, asyncpg.QueryCanceledError)
# Which of these were applied before, as they are now.
_UNCHANGED = """
SELECT asked.number FROM ROWS FROM (
    pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
    pg_catalog.unnest($4::text[]::jsonb[])
) WITH ORDINALITY AS asked(event_type, object_id, object, number)
CROSS JOIN LATERAL (
    SELECT f.object FROM billhook.fetched_payments f
    WHERE f.environment = $1 AND f.event_type = asked.event_type AND f.object_id = asked.object_id
    OFFSET 0) AS known
WHERE known.object = asked.object
"""
# If a page reports a fact twice, the newer one is kept.
_KEEP = """
INSERT INTO billhook.fetched_payments (environment, event_type, object_id, told_at, object)
SELECT DISTINCT ON (1, 2, 3) $1::text, event_type, object_id, pg_catalog.to_timestamp(at), object
FROM ROWS FROM (
    pg_catalog.unnest($2::text[]), pg_catalog.unnest($3::text[]),
    pg_catalog.unnest($4::text[]::jsonb[]), pg_catalog.unnest($5::text[]::bigint[])
) AS told(event_type, object_id, object, at)
ORDER BY 1, 2, 3, at DESC
ON CONFLICT (environment, event_type, object_id) DO UPDATE SET
    told_at = EXCLUDED.told_at, object = EXCLUDED.object
WHERE fetched_payments.told_at <= EXCLUDED.told_at
"""


@dataclass(frozen=True, slots=True)
class Told:
    """A fact, and the part of its object that is kept for a rebuild, as JSON."""

    fact: Fact
    kept: str


def told_by(listing: Listing, objects: Sequence[StripeObject], at: int) -> list[Told]:
    """What the objects of a page say. One that cannot be read is logged and skipped.

    Args:
        at: epoch seconds at which the objects certainly had this state.
    """
    found = []
    for each in objects:
        try:
            for event in listing.events(each, at):
                changes = changes_of_fetched(event)
                if changes.payment or changes.claim or changes.checkout_session:
                    part = orjson.dumps(kept(event.object)).decode()
                    found.append(Told(Fact(event, changes), part))
        except (UnreadableObject, *FAULTS) as error:
            reason = str(error) if isinstance(error, UnreadableObject) else fault_of(error)
            log.warning("a Stripe object cannot be read", id=each["id"], reason=reason)
    return found


async def write_page(
    reader: StripeReader,
    part: Range,
    objects: Sequence[StripeObject],
    told: Sequence[Told],
    older: Range | None,
) -> None:
    """Write a page, how far its range is read, and the range that was split off from it, in one
    transaction. An object that a rule of the app rejects is skipped.

    Raises:
        LeaseLost: another process is importing, or the key was changed.
        DatabaseUnavailable: PostgreSQL is unavailable.
        asyncpg.PostgresError: a row could not be written now, because of a lock or a time limit.
    """
    before = part.objects, part.written, part.after, part.reached

    async def write(facts: Sequence[Told]) -> None:
        part.objects, part.written, part.after, part.reached = before
        async with reader.database.as_service() as connection:
            await reader.check(connection)
            written = await _apply(connection, reader, facts)
            part.note(objects, written)
            await ranges.save(connection, part)
            if older is not None:
                await ranges.add(connection, reader.environment, older)

    try:
        await repeat_collisions(lambda: write(told))
    except asyncpg.PostgresError:
        written = sum([await _write_singly(reader, each) for each in told])
        before = before[0], before[1] + written, before[2], before[3]
        await repeat_collisions(lambda: write(()))


async def _write_singly(reader: StripeReader, told: Told) -> int:
    """A row of the page was rejected: find it and skip it."""

    async def write() -> int:
        async with reader.database.as_service() as connection:
            await reader.check(connection)
            return await _apply(connection, reader, [told])

    try:
        return await repeat_collisions(write)
    except _PASSING:
        raise
    except asyncpg.PostgresError as error:
        object_id, reason = told.fact.event.object["id"], reason_of(error)
        log.warning(
            "a payment could not be imported",
            environment=reader.environment,
            object_id=object_id,
            reason=reason,
        )
        async with reader.database.connection() as connection:
            await ranges.skipped(connection, reader.environment, f"{object_id}: {reason}")
        return 0


async def _apply(connection: Connection, reader: StripeReader, told: Sequence[Told]) -> int:
    """Apply what is new, and keep what counted: not what an event had already reported.

    Returns:
        How many facts counted.
    """
    if not told:
        return 0
    await connection.execute(_BY_KEY)
    environment = reader.environment
    unchanged = {
        row["number"] for row in await connection.fetch(_UNCHANGED, environment, *_columns(told))
    }
    new = [each for number, each in enumerate(told, start=1) if number not in unchanged]
    # What a fact leaves open is answered by another list: what is still open at the end is queued.
    rows = await apply_facts(
        connection, environment, [each.fact for each in new], outside_ledger=True, queue=False
    )
    counted = _counted(rows)
    keep = [each for each in new if _names(each) & counted]
    if keep:
        times = [str(each.fact.event.created) for each in keep]
        await connection.execute(_KEEP, environment, *_columns(keep), times)
    return len(keep)


def _columns(told: Sequence[Told]) -> tuple[list[str], list[str], list[str]]:
    return (
        [each.fact.event.type for each in told],
        [reported_by(each.fact.event) for each in told],
        [each.kept for each in told],
    )


def _counted(rows: dict[str, list[object]]) -> set[str]:
    """The ids of the objects whose facts were new."""
    found = set()
    for table, column in (
        ("payment_sources", "object_id"),
        ("payment_refunds", "object_id"),
        ("payment_refs", "object_id"),  # an open payment of an invoice is only a link
        ("stripe_checkout_sessions", "checkout_session_id"),
        ("customer_claims", "ref"),
    ):
        for row in rows.get(table, ()):
            if isinstance(row, dict) and row.get("version_event_id", "") == "":
                found.add(str(row[column]))
    return found


def _names(told: Told) -> set[str]:
    changes = told.fact.changes
    claim = {changes.claim.ref} if changes.claim is not None else set()
    refs = changes.payment.refs.values() if changes.payment is not None else ()
    return {str(told.fact.event.object["id"]), *claim}.union(*refs)
