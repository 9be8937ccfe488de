"""Takes rows of usage for sending, and stores the results.

Before the first request, the events of a batch are stored with the rows that they count. So after a
crash the same events are sent again, under the same identifiers, and Stripe counts each once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from billhook.postgres import Connection, Database
from billhook.postgres.leases import Lease
from billhook.settings import Environment
from billhook.usage.events import (
    MeterEvent,
    Result,
    UsageRow,
    decode,
    encode,
    events_of,
    unsure,
)

MOST_ROWS = 1_000
"""Rows of one batch."""
_PROBE_ROWS = 10
NO_CUSTOMER = "Waits until a Stripe customer is mapped to {type}:{id}."
_LOOKS = 10_000  # subjects without a customer that are looked up at a time
_WOKEN = 10_000  # rows of one transaction

# Whatever the planner knows about the tables, by index.
PLAIN_PLANS = """
SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off;
SET LOCAL jit = off
"""
# Once a second, and without a transaction. Only the index has the order, which EXISTS would ignore.
_ANY_DUE = """
SELECT coalesce((
        SELECT true FROM billhook.usage_batches WHERE environment = $1 AND next_at <= now()
        ORDER BY next_at, id LIMIT 1), false)
    OR coalesce((
        SELECT true FROM payments.usage WHERE environment = $1 AND status = 'pending'
        ORDER BY created_at, id LIMIT 1), false)
    AND NOT EXISTS (SELECT FROM billhook.usage_batches WHERE environment = $1 AND stalled)
"""
# Whether nothing of a batch could be sent, and it is not time to try it again.
_STALLED = """
SELECT pg_catalog.bool_or(next_at > now()) FROM billhook.usage_batches
WHERE environment = $1 AND stalled
"""
_TAKE = """
SELECT u.id, u.identifier, u.meter, u.value, u.payload, u.occurred_at, u.created_at,
    u.subject_type, u.subject_id, coalesce(u.customer_id, c.provider_customer_id) AS customer,
    m.formula, m.customer_key, m.value_key
FROM payments.usage AS u
LEFT JOIN LATERAL (
    SELECT provider_customer_id FROM payments.customer_mappings
    WHERE provider = 'stripe' AND environment = $1
      AND subject_type = u.subject_type AND subject_id = u.subject_id) AS c ON true
LEFT JOIN LATERAL (
    SELECT formula, customer_key, value_key FROM payments.stripe_meters
    WHERE environment = $1 AND event_name = u.meter AND status = 'active' LIMIT 1) AS m ON true
WHERE u.environment = $1 AND u.status = 'pending'
ORDER BY u.created_at, u.id LIMIT $2
FOR UPDATE OF u SKIP LOCKED
"""
_STORE = """
INSERT INTO billhook.usage_batches
    (environment, events, rows, oldest_at, attempts, holder, unsettled_since)
VALUES ($1, $2, $3, $4, 1, $5, now())
RETURNING id, extract(epoch FROM unsettled_since)::float8 AS taken_at
"""
_TAKEN = """
UPDATE payments.usage AS u SET status = 'sending', last_error = NULL
FROM pg_catalog.unnest($1::text[]) AS taken WHERE u.id = taken::bigint
"""
_WAIT = """
UPDATE payments.usage AS u SET status = 'waiting', last_error = waiting.reason
FROM unnest($1::text[], $2::text[]) AS waiting(id, reason) WHERE u.id = waiting.id::bigint
"""
# One that another lease's holder sends was left by a process that died.
_TAKE_AGAIN = """
WITH due AS (
    SELECT id FROM billhook.usage_batches
    WHERE environment = $1 AND next_at <= now() AND holder IS DISTINCT FROM $2
    ORDER BY next_at, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE billhook.usage_batches AS b
SET attempts = b.attempts + 1, holder = $2, unsettled_since = coalesce(b.unsettled_since, now())
FROM due WHERE b.id = due.id
RETURNING b.id, b.events, extract(epoch FROM now())::float8 AS taken_at,
    extract(epoch FROM b.unsettled_since)::float8 AS unsettled_since,
    b.unsettled_since < now() AS tried_before
"""
_LOCK = """
SELECT oldest_at, attempts, stalled FROM billhook.usage_batches
WHERE id = $1 AND environment = $2 FOR UPDATE
"""
_SETTLE = """
UPDATE payments.usage AS u SET status = settled.status, sent_as = settled.sent_as,
    sent_at = CASE settled.status WHEN 'sent' THEN now() END,
    last_error = nullif(settled.reason, '')
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
    AS settled(id, status, sent_as, reason)
WHERE u.id = settled.id::bigint
"""
_DONE = "DELETE FROM billhook.usage_batches WHERE id = $1"
_KEEP = """
UPDATE billhook.usage_batches SET events = $2, rows = $3, stalled = $4, holder = NULL,
    unsettled_since = NULL,
    next_at = now() + least(billhook.backoff(attempts), interval '10 minutes')
WHERE id = $1
"""
_GO_ON = """
UPDATE billhook.usage_batches SET stalled = false WHERE id IN (
    SELECT id FROM billhook.usage_batches WHERE environment = $1 AND stalled ORDER BY id FOR UPDATE)
"""
_PARK = """
INSERT INTO billhook.usage_batches
    (environment, events, uncertain, rows, oldest_at, next_at)
VALUES ($1, $2, $3, $4, $5, 'infinity')
"""
# Of the subjects that wait, each is found in the index after the one before it.
_WAKE = """
WITH RECURSIVE subjects(subject_type, subject_id) AS (
    (SELECT subject_type, subject_id FROM payments.usage
     WHERE environment = $1 AND status = 'waiting' AND (subject_type, subject_id) > ($2, $3)
     ORDER BY subject_type, subject_id LIMIT 1)
    UNION ALL
    SELECT following.subject_type, following.subject_id
    FROM subjects AS s CROSS JOIN LATERAL (
        SELECT u.subject_type, u.subject_id FROM payments.usage AS u
        WHERE u.environment = $1 AND u.status = 'waiting'
          AND (u.subject_type, u.subject_id) > (s.subject_type, s.subject_id)
        ORDER BY u.subject_type, u.subject_id LIMIT 1) AS following
), page AS MATERIALIZED (
    SELECT subject_type, subject_id FROM subjects LIMIT $4
), mapped AS MATERIALIZED (
    SELECT s.subject_type, s.subject_id FROM page AS s
    JOIN payments.customer_mappings AS m
      ON m.provider = 'stripe' AND m.environment = $1
     AND m.subject_type = s.subject_type AND m.subject_id = s.subject_id
), woken AS (
    UPDATE payments.usage AS u SET status = 'pending', last_error = NULL
    WHERE u.id IN (
        SELECT x.id FROM mapped JOIN payments.usage AS x
          ON x.environment = $1 AND x.status = 'waiting'
         AND x.subject_type = mapped.subject_type AND x.subject_id = mapped.subject_id
        LIMIT $5 FOR UPDATE OF x SKIP LOCKED)
    RETURNING 1
)
SELECT (SELECT pg_catalog.count(*) FROM woken) AS woken,
    (SELECT pg_catalog.count(*) FROM page) AS looked_up, last.subject_type, last.subject_id
FROM (SELECT) AS one LEFT JOIN (
    SELECT subject_type, subject_id FROM page
    ORDER BY subject_type DESC, subject_id DESC LIMIT 1) AS last ON true
"""

Subject = tuple[str, str]
FIRST: Subject = ("", "")
"""Before all subjects."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events that are stored, and may be sent.

    Attributes:
        taken_at: when it was taken, in epoch seconds of PostgreSQL's clock.
    """

    id: int
    events: list[MeterEvent]
    taken_at: float


async def any_due(database: Database, environment: Environment) -> bool:
    """Whether there is anything to send."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_ANY_DUE, environment))


async def wake(
    database: Database, environment: Environment, after: Subject
) -> tuple[Subject, bool]:
    """Schedule waiting rows whose subject has a customer now, of the next subjects after `after`.

    Returns:
        Where to go on the next time, and whether there may be more to schedule now.
    """
    async with database.as_service() as connection:
        await connection.execute(PLAIN_PLANS)
        row = await connection.fetchrow(_WAKE, environment, *after, _LOOKS, _WOKEN)
    assert row is not None
    if row["woken"] == _WOKEN:
        return after, True
    if row["looked_up"] < _LOOKS:
        return FIRST, False
    return (row["subject_type"], row["subject_id"]), False


async def take_again(database: Database, lease: Lease, environment: Environment) -> Batch | None:
    """The batch that has been due longest for another attempt."""
    async with database.as_service() as connection:
        await lease.check(connection)
        row = await connection.fetchrow(_TAKE_AGAIN, environment, lease.holder)
    if row is None:
        return None
    events = decode(row["events"])
    if row["tried_before"]:  # by processes that died, the first of them then
        events = unsure(events, row["unsettled_since"])
    return Batch(row["id"], events, row["taken_at"])


async def take(database: Database, lease: Lease, environment: Environment) -> Batch | None:
    """Store a new batch of rows that were not sent yet, the oldest first; None if there are none.
    Rows of subjects without a customer begin to wait.

    If Stripe could not be reached, a few rows are taken each time that it is tried again.
    """
    while True:
        async with database.as_service() as connection:
            await connection.execute(PLAIN_PLANS)
            await lease.check(connection)
            stalled = await connection.fetchval(_STALLED, environment)
            if stalled:
                return None
            most = MOST_ROWS if stalled is None else _PROBE_ROWS
            found = await connection.fetch(_TAKE, environment, most)
            if not found:
                return None
            mapped = [row for row in found if row["customer"] is not None]
            await _let_wait(connection, [row for row in found if row["customer"] is None])
            if not mapped:
                continue
            rows = [UsageRow(**{name: row[name] for name in _FIELDS}) for row in mapped]
            events = events_of(rows)
            stored = await connection.fetchrow(
                _STORE,
                environment,
                encode(events),
                len(rows),
                mapped[0]["created_at"],
                lease.holder,
            )
            await connection.execute(_TAKEN, [str(row.id) for row in rows])
        assert stored is not None
        return Batch(stored["id"], events, stored["taken_at"])


_FIELDS = (
    *("id", "identifier", "meter", "customer", "value", "payload", "occurred_at"),
    *("formula", "customer_key", "value_key"),
)


async def _let_wait(connection: Connection, rows: Sequence[object]) -> None:
    if rows:
        reasons = [NO_CUSTOMER.format(type=r["subject_type"], id=r["subject_id"]) for r in rows]  # type: ignore[index]
        await connection.execute(_WAIT, [str(row["id"]) for row in rows], reasons)  # type: ignore[index]


async def settle(
    database: Database,
    lease: Lease,
    environment: Environment,
    batch: Batch,
    results: Sequence[Result],
) -> Counter[str]:
    """Store the results of a batch, of which each event has one. Events to be sent again stay in
    it. Returns how many rows there are of each outcome.

    Raises:
        LeaseLost: another process sends now, or the account was changed.
    """
    kept = [each.event for each in results if each.outcome == "again"]
    settled = [each for each in results if each.outcome != "again"]
    async with database.as_service() as connection:
        await connection.execute(PLAIN_PLANS)
        await lease.check(connection)
        stored = await connection.fetchrow(_LOCK, batch.id, environment)
        if stored is None:
            return Counter()
        for each in settled:
            if each.outcome == "uncertain":
                parked = encode([each.event])
                await connection.execute(
                    _PARK,
                    environment,
                    parked,
                    each.event.identifier,
                    len(each.event.rows),
                    stored["oldest_at"],
                )
        await connection.execute(_SETTLE, *_columns(settled))
        if kept:
            rows = sum(len(event.rows) for event in kept)
            # Of a batch that was tried before, single events may fail for reasons of their own.
            stalled = not settled and (stored["attempts"] == 1 or stored["stalled"])
            await connection.execute(_KEEP, batch.id, encode(kept), rows, stalled)
        else:
            await connection.execute(_DONE, batch.id)
    if settled:  # after the transaction, which has locked a batch of its own
        await database.execute(_GO_ON, environment)
    return Counter(each.outcome for each in results for _ in each.event.rows)


def _columns(results: Sequence[Result]) -> tuple[list[str], list[str], list[str], list[str]]:
    rows = [
        (str(row), each.outcome, each.event.identifier, each.reason or "")
        for each in results
        for row in each.event.rows
    ]
    ids, statuses, identifiers, reasons = zip(*rows, strict=True) if rows else ((), (), (), ())
    return list(ids), list(statuses), list(identifiers), list(reasons)
