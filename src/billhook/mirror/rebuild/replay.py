"""Fills the fresh tables: first with data that no event of the ledger contains, then with every
event. Each step can be repeated and then only adds what is new: rows are a function of the set of
facts, whatever their order (docs/explanation/ordering.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from uuid import UUID

import asyncpg

from billhook import ledger
from billhook.errors import FAULTS, InvalidInput, fault_of
from billhook.kinds import KINDS, Kind
from billhook.kinds.recurring import Terms
from billhook.mirror.fetching import facts_of
from billhook.models import SkippedEvent
from billhook.postgres import LONG_PATIENCE, Connection
from billhook.postgres.providers import of_stripe
from billhook.postgres.refusals import reason_of
from billhook.projections import TYPES, Changes, Event, UnreadableObject, project
from billhook.projections.changes import ClaimChange, SubscriptionState
from billhook.projections.fetched import changes_of_fetched
from billhook.rows import Elsewhere, Fact, apply_facts
from billhook.settings import Environment
from billhook.task_groups import all_or_first_error

_BATCH = 1000
_TYPES_BY_RANK = ("customer.subscription.created", "customer.subscription.updated")

# Rows of an adopted database are older than the first migration.
_ADOPTED_AT = "(SELECT pg_catalog.min(applied_at) FROM billhook.migrations)"
# A live row, without the columns that the app added.
_OURS = "pg_catalog.jsonb_populate_record(NULL::pg_temp.{}, pg_catalog.to_jsonb(live)) AS ours"
_ADOPTED = (
    *(
        f"""
        INSERT INTO pg_temp.{table} SELECT ours.* FROM payments.{table} live, {_OURS.format(table)}
        WHERE {of_stripe(table, "live")} AND live.created_at < {_ADOPTED_AT}
          AND live.provider_event_at IS NULL
        ON CONFLICT DO NOTHING
        """  # noqa: S608
        for table in (kind.table for kind in KINDS.values())
    ),
    *(
        f"""
        INSERT INTO pg_temp.{of.table} SELECT ours.* FROM payments.{of.table} live
        JOIN pg_temp.{kind.table} s USING (environment, {of.parent})
        CROSS JOIN {_OURS.format(of.table)}
        WHERE live.environment = $1 AND live.created_at < {_ADOPTED_AT}
          AND s.provider_event_at IS NULL
        ON CONFLICT DO NOTHING
        """  # noqa: S608
        for kind in KINDS.values()
        if (of := kind.children) is not None
    ),
    f"""
    INSERT INTO pg_temp.transactions
    SELECT ours.* FROM payments.transactions live, {_OURS.format("transactions")}
    WHERE {of_stripe("transactions", "live")} AND live.created_at < {_ADOPTED_AT}
    ON CONFLICT DO NOTHING
    """,  # noqa: S608
    # No event reported these. The row may be gone: its payment was merged into another.
    *(
        f"""
        INSERT INTO pg_temp.{table} SELECT * FROM billhook.{table}
        WHERE environment = $1 AND version_event_id = '' AND version_at < {_ADOPTED_AT}
        ON CONFLICT DO NOTHING
        """  # noqa: S608
        for table in ("payment_sources", "payment_refunds")
    ),
    """
    INSERT INTO pg_temp.payment_refs SELECT * FROM billhook.payment_refs
    WHERE environment = $1 AND payment_id IN (
        SELECT payment_id FROM pg_temp.transactions
        UNION ALL SELECT payment_id FROM pg_temp.payment_sources
        UNION ALL SELECT payment_id FROM pg_temp.payment_refunds)
    ON CONFLICT DO NOTHING
    """,
)
# A session's row comes from its caller and Stripe's response; only what events say is rebuilt.
_SESSIONS = (
    """
    DELETE FROM pg_temp.stripe_checkout_sessions s USING payments.stripe_checkout_sessions live
    WHERE s.id = live.id AND live.environment = $1 AND s.provider_event_at IS NULL
    """,
    """
    INSERT INTO pg_temp.stripe_checkout_sessions
    SELECT ours.* FROM payments.stripe_checkout_sessions live, pg_catalog.jsonb_populate_record(
        NULL::pg_temp.stripe_checkout_sessions, pg_catalog.to_jsonb(live) - ARRAY[
            'provider_event_at', 'provider_event_rank', 'provider_event_id']) AS ours
    WHERE live.environment = $1
    ON CONFLICT DO NOTHING
    """,
)
_CLAIMS = """
SELECT customer_id, subject_type, subject_id, kind::text AS kind, ref,
    extract(epoch FROM claimed_at)::bigint AS at
FROM billhook.customer_claims WHERE environment = $1 AND outside_ledger
"""
_TOMBSTONES = """
SELECT object_type, object_id, extract(epoch FROM deleted_at)::bigint AS at
FROM billhook.tombstones WHERE environment = $1 AND outside_ledger
"""
# The rows that show fetched objects, unless they are already equal here.
_FETCHED = """
SELECT live.raw, extract(epoch FROM live.provider_event_at)::bigint AS at
FROM payments.{table} live
WHERE {of_stripe}
  AND live.provider_event_id IS NULL AND live.provider_event_at IS NOT NULL
  AND NOT EXISTS (
      SELECT FROM pg_temp.{table} here
      WHERE here.environment = $1 AND here.{key} = live.{key}
        AND here.provider_event_at = live.provider_event_at AND here.raw = live.raw)
"""
# Rows for which several states of one second exist, where the live row shows another one. The
# choice may depend on the order of arrival and on Stripe's response at the time, so it is a fact.
_TIED = """
SELECT live.raw, extract(epoch FROM live.provider_event_at)::bigint AS at,
    coalesce(e.payload, a.content -> 'payload'::text)::text AS payload, live.{key} AS key
FROM pg_temp.ties t
JOIN payments.{table} live ON live.environment = t.environment AND live.{key} = t.object_id
JOIN pg_temp.{table} here ON here.environment = t.environment AND here.{key} = t.object_id
LEFT JOIN payments.webhook_events e ON e.provider = 'stripe' AND e.environment = t.environment
    AND e.provider_event_id = live.provider_event_id AND e.object_id = t.object_id
LEFT JOIN billhook.archived_events a ON a.environment = t.environment
    AND a.event_id = live.provider_event_id AND a.content ->> 'object_id'::text = t.object_id
WHERE t.environment = $1 AND {of_stripe} AND t.object_type = '{kind}'
  AND (live.provider_event_at, live.provider_event_rank)
    = (here.provider_event_at, here.provider_event_rank)
  AND live.provider_event_id IS DISTINCT FROM here.provider_event_id
  AND (live.provider_event_id IS NULL OR e.id IS NOT NULL OR a.event_id IS NOT NULL)
"""
_FORGET = """
UPDATE pg_temp.{table} SET provider_event_at = NULL WHERE environment = $1 AND {key} = ANY ($2)
"""
# States of subscriptions that were fetched, and the terms of discounts, which are only fetched.
_STATES = """
SELECT subscription_id, extract(epoch FROM at)::bigint AS at, rank, customer_id, currency,
    period_amount, gross, discounts, had, extract(epoch FROM had_from)::bigint AS had_from,
    extract(epoch FROM had_to)::bigint AS had_to
FROM billhook.subscription_states WHERE environment = $1 AND event_id = ''
"""
# Movements already follow from states with those discounts.
_LATE_TERMS = """
WITH late AS MATERIALIZED (
    SELECT d.* FROM billhook.discounts d
    WHERE d.environment = $1 AND NOT EXISTS (
        SELECT FROM pg_temp.discounts here
        WHERE here.environment = $1 AND here.discount_id = d.discount_id))
SELECT DISTINCT ON (d.discount_id) s.subscription_id, s.customer_id, s.currency,
    extract(epoch FROM s.at)::bigint AS at,
    d.discount_id, d.percent_off, d.amount_off, d.currency AS of_currency, d.forever
FROM late d
JOIN pg_temp.subscription_states s ON s.environment = d.environment AND (
    s.discounts ? d.discount_id
    OR d.discount_id = ANY (pg_catalog.string_to_array(s.before, ' '::text)))
"""
_DISCOUNTS = """
INSERT INTO pg_temp.discounts SELECT * FROM billhook.discounts WHERE environment = $1
ON CONFLICT DO NOTHING
"""
_FETCHED_PAYMENTS = """
SELECT event_type, extract(epoch FROM told_at)::bigint AS at, object
FROM billhook.fetched_payments WHERE environment = $1
"""

# The payload of an event whose type changes nothing is not read. An adopted database's events count
# from the time when Billhook started to apply them.
_LEDGER = f"""
SELECT e.provider_event_id AS event_id,
    CASE WHEN e.event_type = ANY ($2::text[]) THEN e.payload::text END AS payload
FROM payments.webhook_events e
WHERE e.environment = $1 AND e.provider = 'stripe'
  AND e.updated_at >= {_ADOPTED_AT}
  AND NOT EXISTS (
      SELECT FROM billhook.events_of_others($1) o WHERE o.event_id = e.provider_event_id)
  AND NOT EXISTS (SELECT FROM pg_temp.replayed r WHERE r.event_id = e.provider_event_id)
ORDER BY e.received_at, e.id
"""  # noqa: S608
_ARCHIVE = f"""
SELECT a.event_id, CASE WHEN a.content ->> 'event_type'::text = ANY ($2::text[])
    THEN (a.content -> 'payload'::text)::text END AS payload
FROM billhook.archived_events a
WHERE a.environment = $1
  AND (a.content ->> 'updated_at'::text)::timestamptz >= {_ADOPTED_AT}
  AND NOT EXISTS (SELECT FROM billhook.events_of_others($1) o WHERE o.event_id = a.event_id)
  AND NOT EXISTS (SELECT FROM pg_temp.replayed r WHERE r.event_id = a.event_id)
"""  # noqa: S608
# The same facts in an archive.
_ARCHIVED_CLAIMS = """
SELECT c.customer_id, c.subject_type, c.subject_id, c.kind::text AS kind, c.ref,
    extract(epoch FROM c.claimed_at)::bigint AS at
FROM billhook.archived_rows a,
    pg_catalog.jsonb_populate_record(NULL::billhook.customer_claims, a.content) c
WHERE a.archive_id = $1 AND a.relation = 'billhook.customer_claims' AND c.outside_ledger
"""
_ARCHIVED_TOMBSTONES = """
SELECT t.object_type, t.object_id, extract(epoch FROM t.deleted_at)::bigint AS at
FROM billhook.archived_rows a,
    pg_catalog.jsonb_populate_record(NULL::billhook.tombstones, a.content) t
WHERE a.archive_id = $1 AND a.relation = 'billhook.tombstones' AND t.outside_ledger
"""
_ARCHIVED_ROWS = """
SELECT content -> 'raw'::text AS raw,
    extract(epoch FROM (content ->> 'provider_event_at'::text)::timestamptz)::bigint AS at
FROM billhook.archived_rows
WHERE archive_id = $1 AND relation = $2
  AND content ->> 'provider_event_id'::text IS NULL
  AND content ->> 'provider_event_at'::text IS NOT NULL
"""
_ARCHIVED_STATES = """
SELECT s.subscription_id, extract(epoch FROM s.at)::bigint AS at, s.rank, s.customer_id,
    s.currency, s.period_amount, s.gross, s.discounts, s.had,
    extract(epoch FROM s.had_from)::bigint AS had_from,
    extract(epoch FROM s.had_to)::bigint AS had_to
FROM billhook.archived_rows a,
    pg_catalog.jsonb_populate_record(NULL::billhook.subscription_states, a.content) s
WHERE a.archive_id = $1 AND a.relation = 'billhook.subscription_states' AND s.event_id = ''
"""
_NOTE = "INSERT INTO pg_temp.replayed SELECT pg_catalog.unnest($1::text[]) ON CONFLICT DO NOTHING"

Rows = list[asyncpg.Record]


class Replay:
    """Applies all facts to the fresh tables, in batches.

    Attributes:
        events: how many events were applied.
        skipped: events that could not be applied.
    """

    def __init__(self, connection: Connection, environment: Environment, tables: Elsewhere) -> None:
        self._connection = connection
        self._environment = environment
        self._tables = tables
        self.events = 0
        self.skipped: list[SkippedEvent] = []

    async def run(self) -> None:
        """Apply everything that has not been applied yet."""
        for statement in (*_ADOPTED, *_SESSIONS):
            await self._connection.execute(statement, self._environment, timeout=LONG_PATIENCE)
        await self._in_batches(_LATE_TERMS, self._apply_terms)
        await self._connection.execute(_DISCOUNTS, self._environment, timeout=LONG_PATIENCE)
        await self._in_batches(_CLAIMS, self._apply_claims)
        await self._in_batches(_STATES, self._apply_states)
        for kind in KINDS.values():
            query = _FETCHED.format(
                table=kind.table, key=kind.key, of_stripe=of_stripe(kind.table, "live")
            )
            await self._in_batches(query, partial(self._show, kind))
        await self._in_batches(_TOMBSTONES, self._apply_deletions)
        await self._in_batches(_FETCHED_PAYMENTS, self._apply_fetched)
        await self._apply_events(_ARCHIVE)
        await self._apply_events(_LEDGER)
        for kind in KINDS.values():
            query = _TIED.format(
                kind=kind.name,
                table=kind.table,
                key=kind.key,
                of_stripe=of_stripe(kind.table, "live"),
            )
            await self._in_batches(query, partial(self._decide, kind))

    async def run_archive(self, archive: UUID) -> None:
        """Apply the facts of an archive that no event of the ledger contains."""
        await self._in_batches(_ARCHIVED_CLAIMS, self._apply_claims, archive)
        await self._in_batches(_ARCHIVED_STATES, self._apply_states, archive)
        for kind in KINDS.values():
            relation = f"payments.{kind.table}"
            await self._in_batches(_ARCHIVED_ROWS, partial(self._show, kind), archive, relation)
        await self._in_batches(_ARCHIVED_TOMBSTONES, self._apply_deletions, archive)

    async def _in_batches(
        self, query: str, apply: Callable[[Rows], Awaitable[None]], *args: object
    ) -> None:
        async for rows in self._batches(query, *(args or (self._environment,))):
            await apply(rows)

    async def _batches(self, query: str, *args: object) -> AsyncIterator[Rows]:
        """Read a query's result, one batch in memory at a time."""
        rows: Rows = []
        cursor = self._connection.cursor(query, *args, prefetch=_BATCH, timeout=LONG_PATIENCE)
        async for row in cursor:
            rows.append(row)
            if len(rows) == _BATCH:
                yield rows
                rows = []
        if rows:
            yield rows

    async def _apply_claims(self, rows: Rows) -> None:
        facts = []
        for row in rows:
            columns = dict(row)
            event = Event("", "", columns.pop("at"), {}, None)
            facts.append(Fact(event, Changes(claim=ClaimChange(**columns))))
        await self._apply(facts, outside_ledger=True)

    async def _apply_terms(self, rows: Rows) -> None:
        facts = []
        for row in rows:
            terms = Terms(
                *(row["discount_id"], row["percent_off"], row["amount_off"]),
                *(row["of_currency"], row["forever"]),
            )
            state = SubscriptionState(
                subscription_id=row["subscription_id"],
                at=row["at"],
                customer_id=row["customer_id"],
                currency=row["currency"],
                period_amount=0,
                gross=0,
                terms=(terms,),
                record="never",
            )
            event = Event("", "", row["at"], {}, None)
            facts.append(Fact(event, Changes(recurring=state)))
        await self._apply(facts, outside_ledger=True)

    async def _apply_states(self, rows: Rows) -> None:
        facts = []
        for row in rows:
            columns = dict(row)
            # Its type is that of the rank.
            event = Event("", _TYPES_BY_RANK[columns.pop("rank")], row["at"], {}, None)
            discounts = tuple(columns.pop("discounts"))
            state = SubscriptionState(**columns, discounts=discounts)
            facts.append(Fact(event, Changes(recurring=state)))
        await self._apply(facts, outside_ledger=True)

    async def _apply_deletions(self, rows: Rows) -> None:
        facts = []
        for row in rows:
            event = Event("", "", row["at"], {"id": row["object_id"]}, None)
            gone = (row["object_type"], row["object_id"])
            facts.append(Fact(event, Changes(deleted=gone)))
        await self._apply(facts, outside_ledger=True)

    async def _show(self, kind: Kind, rows: Rows) -> None:
        """Fetched objects: `raw`, and `at`, the time."""
        facts = [fact for row in rows for fact in facts_of(kind, [row["raw"]], row["at"], "never")]
        await self._apply(facts, outside_ledger=True)

    async def _apply_fetched(self, rows: Rows) -> None:
        """Rows of `billhook.fetched_payments`."""
        events = [Event("", row["event_type"], row["at"], row["object"], None) for row in rows]
        facts = [Fact(each, changes_of_fetched(each)) for each in events]
        await self._apply(facts, outside_ledger=True)

    async def _apply_events(self, query: str) -> None:
        """Events. While PostgreSQL applies a batch, a thread decodes the next one."""
        batches = self._batches(query, self._environment, list(TYPES))
        rows: Rows = await anext(batches, [])
        async with all_or_first_error() as group:
            decoding = group.create_task(asyncio.to_thread(_decoded, rows))
            while rows:
                events, applied = [row["event_id"] for row in rows], await decoding
                rows = await anext(batches, [])
                decoding = group.create_task(asyncio.to_thread(_decoded, rows))
                self.events += applied.unused
                self.skipped += applied.skipped
                await self._apply_or_skip(applied.facts)
                await self._connection.execute(_NOTE, events)

    async def _apply_or_skip(self, facts: list[Fact]) -> None:
        """Apply events. One that cannot be applied, as when it arrived, is found by halving."""
        try:
            await self._apply(facts)
            self.events += len(facts)
        except (asyncpg.PostgresError, *FAULTS) as error:
            if len(facts) > 1:
                half = len(facts) // 2
                await self._apply_or_skip(facts[:half])
                await self._apply_or_skip(facts[half:])
                return
            reason = (
                reason_of(error) if isinstance(error, asyncpg.PostgresError) else fault_of(error)
            )
            self.skipped.append(SkippedEvent(event_id=facts[0].event.id, reason=reason))

    async def _decide(self, kind: Kind, rows: Rows) -> None:
        """Choose the state that is shown in the live table."""
        forget = _FORGET.format(table=kind.table, key=kind.key)
        await self._connection.execute(forget, self._environment, [row["key"] for row in rows])
        await self._show(kind, [row for row in rows if row["payload"] is None])
        events = [ledger.decode(row["payload"].encode()).event for row in rows if row["payload"]]
        await self._apply([Fact(each, project(each)) for each in events])

    async def _apply(self, facts: list[Fact], *, outside_ledger: bool = False) -> None:
        async with self._connection.transaction():  # a savepoint
            await apply_facts(
                self._connection,
                self._environment,
                facts,
                outside_ledger=outside_ledger,
                elsewhere=self._tables,
            )


@dataclass(slots=True)
class _Events:
    """A batch of events, decoded.

    Attributes:
        unused: how many change nothing.
        skipped: those that cannot be read; they could not be applied when they arrived, either.
    """

    facts: list[Fact] = field(default_factory=list)
    unused: int = 0
    skipped: list[SkippedEvent] = field(default_factory=list)


def _decoded(rows: Rows) -> _Events:
    """Events of their ids, and of their payloads unless these change nothing."""
    found = _Events()
    for row in rows:
        if (payload := row["payload"]) is None:
            found.unused += 1
            continue
        try:
            event = ledger.decode(payload.encode()).event
            found.facts.append(Fact(event, project(event)))
        except (InvalidInput, UnreadableObject) as error:
            found.skipped.append(SkippedEvent(event_id=row["event_id"], reason=str(error)))
    return found
