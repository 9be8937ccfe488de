"""The puller: Stripe's event list, through the same pipeline as webhooks
(docs/explanation/recovery.md).

It applies events whose webhooks were missed, and replaces webhooks if Stripe cannot reach the
server. The list is read from a stored cursor, with an overlap: an event may appear in the list
after newer ones. Events that are already in the ledger are skipped.
"""

from __future__ import annotations

from dataclasses import dataclass

import orjson
import structlog

from billhook.account.endpoint_events import received
from billhook.errors import BillhookError, ObjectLocked
from billhook.ledger import EventNotApplied, EventNotRecorded, Ledger, decode
from billhook.mirror import event_list, fetching, gaps
from billhook.postgres import Database
from billhook.postgres.leases import Lease, LeaseLost, try_lease
from billhook.settings import Environment
from billhook.stripe.gateway import Gateway, StripeObject

log = structlog.get_logger(__name__)

OVERLAP = 300
"""Seconds before the cursor that are read again each time."""
LISTED = 30 * 86_400
"""Seconds for which Stripe lists an event (stripe-facts 33)."""

_MOST = 1_000  # events of a window: all of them are in memory, to be applied oldest first

# A connected account without a cursor (earlier versions left restored archives that way) is pulled
# from the time it was connected, but from no earlier than the first migration or the last archive.
_BEGIN = """
INSERT INTO billhook.pulls (environment, since, cursor_at)
SELECT $1, at, at FROM (
    SELECT pg_catalog.date_trunc('second', greatest(c.created_at,
        (SELECT pg_catalog.min(applied_at) FROM billhook.migrations),
        (SELECT pg_catalog.max(archived_at) FROM billhook.archives WHERE environment = $1))) AS at
    FROM payments.provider_connections c
    WHERE c.provider = 'stripe' AND c.environment = $1
      AND c.status <> 'unconfigured' AND c.provider_account_id IS NOT NULL) AS connected
ON CONFLICT DO NOTHING
"""
_IS_DUE = """
SELECT EXISTS (SELECT FROM billhook.pulls WHERE environment = $1 AND next_at <= now())
"""
_TAKE_TURN = """
UPDATE billhook.pulls
SET next_at = CASE WHEN $2::float8 IS NULL THEN next_at
    ELSE now() + pg_catalog.make_interval(secs => $2) END
WHERE environment = $1 AND ($2::float8 IS NULL OR next_at <= now())
RETURNING extract(epoch FROM since)::bigint AS since,
    extract(epoch FROM cursor_at)::bigint AS cursor_at
"""
_KNOWN = """
SELECT provider_event_id AS id, processing_status FROM payments.webhook_events
WHERE provider = 'stripe' AND environment = $1 AND provider_event_id = ANY ($2)
"""
_MOVE = """
UPDATE billhook.pulls SET cursor_at = greatest(cursor_at, pg_catalog.to_timestamp($2::bigint))
WHERE environment = $1
"""
_PULLED = """
UPDATE billhook.pulls SET
    pulled_at = now(), failures = 0, error = NULL,
    newest_at = coalesce(pg_catalog.to_timestamp($2::bigint), newest_at),
    applied_at = coalesce(pg_catalog.to_timestamp($3::bigint), applied_at)
WHERE environment = $1
"""
_FAILED = """
UPDATE billhook.pulls SET
    failures = failures + 1, error = $2,
    next_at = greatest(next_at, now() + least(billhook.backoff(failures), interval '5 minutes'))
WHERE environment = $1
"""


@dataclass(slots=True)
class _Seen:
    """The result of reading Stripe's list: its newest event, and the newest applied one; epoch
    seconds."""

    newest: int | None = None
    applied: int | None = None
    unrecorded: BillhookError | None = None
    """Why an event could not be recorded: the cursor waits for it, but the other events don't."""


async def pull_due(
    ledger: Ledger, gateway: Gateway, environment: Environment, every: float | None
) -> None:
    """Read new events from Stripe's list, if it is due and no other worker is doing it. If there
    are missed events that Stripe no longer lists, this gap is stored (`gaps`).

    Args:
        every: seconds between two pulls, for all workers together; None: now.

    Raises:
        BillhookError: a request to Stripe failed; it is retried later, from the same cursor.
        LeaseLost: the key was changed in the meantime.
    """
    database = ledger.database
    if every is not None and not await _is_due(database, environment):
        return  # without writing anything: this is asked every second
    async with try_lease(database, f"pull:{environment}") as lease:
        if lease is None:
            return
        async with database.connection() as connection:
            row = await connection.fetchrow(_TAKE_TURN, environment, every)
            if row is None:
                if every is None:  # the first pull: from now on
                    await connection.execute(_BEGIN, environment)
                return
        try:
            reader = await fetching.reader_in_background(database, gateway, environment, lease)
            await _pull(ledger, reader, lease, since=row["since"], cursor=row["cursor_at"])
        except LeaseLost:
            raise
        except BillhookError as error:
            async with database.connection() as connection:
                await connection.execute(_FAILED, environment, error.message)
            raise


async def _is_due(database: Database, environment: Environment) -> bool:
    async with database.connection() as connection:
        return bool(await connection.fetchval(_IS_DUE, environment))


async def _pull(
    ledger: Ledger, reader: fetching.StripeReader, lease: Lease, *, since: int, cursor: int
) -> None:
    """Apply the events that Stripe lists from the cursor on, window by window, oldest first.

    Args:
        since: when the account was connected.
    """
    begin = max(since, cursor - OVERLAP)
    page = await event_list.newest(reader, begin)
    end, listed = page.at + 1, page.at - LISTED
    begin = max(begin, listed)
    if (missed := max(since, cursor)) < listed:
        log.warning("events are older than Stripe lists them", environment=reader.environment)
        # First: once the cursor has moved, the gap could no longer be detected.
        async with reader.database.as_service() as connection:
            await lease.check(connection)
            await gaps.found(connection, reader.environment, missed, listed)
    seen = _Seen()
    if not page.more:
        await _apply(ledger, reader, lease, page.objects, seen)
    else:
        width = end - begin
        while begin < end:
            upto = min(begin + width, end)
            events = await _window(reader, begin, upto)
            if events is None:
                width = (upto - begin) // 2
                continue
            await _apply(ledger, reader, lease, events, seen)
            begin = upto
            if 2 * len(events) <= _MOST:  # otherwise half of all pages would be read in vain
                width *= 2
            if seen.unrecorded is None:
                await _execute(reader, lease, _MOVE, begin)
    if seen.unrecorded is not None:
        raise seen.unrecorded
    await _execute(reader, lease, _MOVE, end)
    await _execute(reader, lease, _PULLED, seen.newest, seen.applied)


async def _window(
    reader: fetching.StripeReader, since: int, upto: int
) -> list[StripeObject] | None:
    """The events created in [since, upto), newest first; None if there are too many at once."""
    found: list[StripeObject] = []
    async for page in event_list.pages(reader, since, upto):
        found += page.objects
        if len(found) > _MOST and upto - since > 1:
            return None
    return found


async def _apply(
    ledger: Ledger,
    reader: fetching.StripeReader,
    lease: Lease,
    events: list[StripeObject],
    seen: _Seen,
) -> None:
    """Apply those of `events` (newest first) that are not in the ledger, oldest first."""
    types = await received(reader.database, reader.environment)
    wanted = event_list.applicable(reader.environment, types, events)
    status = await _known(reader, [each["id"] for each in wanted])
    for each in reversed(wanted):
        if each["id"] not in status:
            try:
                status[each["id"]] = await _apply_one(ledger, reader.environment, lease, each)
            except (EventNotRecorded, ObjectLocked) as error:
                status[each["id"]] = "unrecorded"
                seen.unrecorded = error
    finished = [e["created"] for e in wanted if status[e["id"]] in ("processed", "ignored")]
    seen.newest = max([*(each["created"] for each in wanted), seen.newest or 0]) or None
    seen.applied = max([*finished, seen.applied or 0]) or None


async def _apply_one(
    ledger: Ledger, environment: Environment, lease: Lease, event: StripeObject
) -> str:
    try:
        entry = await ledger.record(environment, decode(orjson.dumps(event)), lease)
    except EventNotApplied:
        return "failed"  # it is in the ledger, and will be tried again
    return entry.processing_status


async def _known(reader: fetching.StripeReader, ids: list[str]) -> dict[str, str]:
    async with reader.database.connection() as connection:
        rows = await connection.fetch(_KNOWN, reader.environment, ids)
    return {row["id"]: row["processing_status"] for row in rows}


async def _execute(
    reader: fetching.StripeReader, lease: Lease, statement: str, *args: object
) -> None:
    async with reader.database.as_service() as connection:
        await lease.check(connection)
        await connection.execute(statement, reader.environment, *args)
