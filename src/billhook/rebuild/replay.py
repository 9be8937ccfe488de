"""Filling the fresh tables: first what no event of the ledger says, then every event.

Each step may be done again, and then does only what is new: rows are a function of the set of what
was told, whatever the order (docs/ordering.md).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import asyncpg
import orjson

from billhook import ledger
from billhook.db import Connection
from billhook.db.providers import of_stripe
from billhook.db.refusals import reason_of
from billhook.errors import InvalidInput
from billhook.models import SkippedEvent
from billhook.projections import Event, UnreadableObject, as_json, project
from billhook.projections.fetched import Kind, fetched_row
from billhook.rebuild import fresh
from billhook.rebuild.fresh import PATIENCE
from billhook.settings import Environment

_BATCH = 250

# Rows that an adopted database brought along are older than our first migration.
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
        for table in ("stripe_products", "stripe_prices", "customers", "stripe_subscriptions")
    ),
    f"""
    INSERT INTO pg_temp.stripe_subscription_items
    SELECT ours.* FROM payments.stripe_subscription_items live
    JOIN pg_temp.stripe_subscriptions s USING (environment, subscription_id)
    CROSS JOIN {_OURS.format("stripe_subscription_items")}
    WHERE live.environment = $1 AND live.created_at < {_ADOPTED_AT} AND s.provider_event_at IS NULL
    ON CONFLICT DO NOTHING
    """,  # noqa: S608
    f"""
    INSERT INTO pg_temp.transactions
    SELECT ours.* FROM payments.transactions live, {_OURS.format("transactions")}
    WHERE {of_stripe("transactions", "live")} AND live.created_at < {_ADOPTED_AT}
    ON CONFLICT DO NOTHING
    """,  # noqa: S608
    *(
        f"""
        INSERT INTO pg_temp.{table} SELECT * FROM billhook.{table}
        WHERE environment = $1 AND payment_id IN (SELECT payment_id FROM pg_temp.transactions)
        ON CONFLICT DO NOTHING
        """  # noqa: S608
        for table in ("payment_refs", "payment_sources", "payment_refunds")
    ),
)
# A session's row is its caller's, and Stripe's answer; only what events said of it is made anew.
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
SELECT pg_temp.record_claim($1, pg_catalog.to_jsonb(c), c.claimed_at)
FROM billhook.customer_claims c WHERE c.environment = $1 AND c.outside_ledger
"""
_TOMBSTONES = """
SELECT pg_temp.delete_fetched($1, object_type, object_id, extract(epoch FROM deleted_at)::bigint)
FROM billhook.tombstones WHERE environment = $1 AND outside_ledger
"""
# The rows that show what a sync fetched, and are not the same here already.
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
MIRRORED: Mapping[Kind, tuple[str, str]] = {
    "product": ("stripe_products", "product_id"),
    "price": ("stripe_prices", "price_id"),
    "customer": ("customers", "provider_customer_id"),
    "subscription": ("stripe_subscriptions", "subscription_id"),
}
# Rows where several states of one second met, and not the same of them is shown. Which one it is
# may hang on the order in which they met, and then Stripe was asked: what came of it is a fact.
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
_SHOW = "SELECT pg_temp.project_fetched($1, $2, $3::text::jsonb)"
_FETCHED_PAYMENTS = """
SELECT event_type, extract(epoch FROM told_at)::bigint AS at, object
FROM billhook.fetched_payments WHERE environment = $1
"""

# An adopted database's events count from the moment on when Billhook applied them.
_LEDGER = f"""
SELECT e.payload::text FROM payments.webhook_events e
WHERE e.environment = $1 AND e.provider = 'stripe'
  AND e.updated_at >= {_ADOPTED_AT}
  AND billhook.is_of_this_account($1, e.received_at)
  AND NOT EXISTS (SELECT FROM pg_temp.replayed r WHERE r.event_id = e.provider_event_id)
ORDER BY e.received_at, e.id
"""  # noqa: S608
_ARCHIVE = f"""
SELECT (a.content -> 'payload'::text)::text FROM billhook.archived_events a
WHERE a.environment = $1
  AND (a.content ->> 'updated_at'::text)::timestamptz >= {_ADOPTED_AT}
  AND billhook.is_of_this_account($1, (a.content ->> 'received_at'::text)::timestamptz)
  AND NOT EXISTS (SELECT FROM pg_temp.replayed r WHERE r.event_id = a.event_id)
"""  # noqa: S608
_APPLY = """
SELECT pg_catalog.count(pg_temp.apply_changes(
    $1, x.changes, pg_catalog.to_timestamp(x.at), x.event_id, x.object))
FROM pg_catalog.jsonb_to_recordset($2::text::jsonb)
    AS x(changes jsonb, at bigint, event_id text, object jsonb)
"""
_NOTE = "INSERT INTO pg_temp.replayed SELECT pg_catalog.unnest($1::text[]) ON CONFLICT DO NOTHING"

Rows = list[asyncpg.Record]


class Telling:
    """Tells the functions of `fresh` what was told before, in batches.

    Attributes:
        events: how many events were applied.
        skipped: those that could not be.
    """

    def __init__(self, connection: Connection, environment: Environment) -> None:
        self._connection = connection
        self._environment = environment
        self.events = 0
        self.skipped: list[SkippedEvent] = []

    async def in_batches(
        self, query: str, tell: Callable[[Rows], Awaitable[object]], *args: object
    ) -> None:
        """Read a query to its end, a batch in memory at a time."""
        rows: Rows = []
        cursor = self._connection.cursor(query, *args, prefetch=_BATCH, timeout=PATIENCE)
        async for row in cursor:
            rows.append(row)
            if len(rows) == _BATCH:
                await tell(rows)
                rows = []
        await tell(rows)

    async def show(self, kind: Kind, rows: Rows) -> None:
        """Rows of what was fetched: `raw`, and `at` which time."""
        found = [fetched_row(kind, row["raw"], row["at"]) for row in rows]
        told = orjson.dumps([each for each in found if each is not None]).decode()
        await self._connection.execute(_SHOW, self._environment, kind, told, timeout=PATIENCE)

    async def apply_fetched(self, rows: Rows) -> None:
        """Rows of `billhook.fetched_payments`, with `at` for their time."""
        events = [Event("", row["event_type"], row["at"], row["object"], None) for row in rows]
        await self._apply([_as_applied(each) for each in events])

    async def apply_events(self, rows: Rows) -> list[str]:
        """Rows of an event's payload each. Returns the ids of those that could be read."""
        told = []
        for (payload,) in rows:
            event = ledger.decode(payload.encode()).event
            try:
                told.append(_as_applied(event))
            except (InvalidInput, UnreadableObject) as error:
                self.skipped.append(SkippedEvent(event_id=event.id, reason=str(error)))
        try:
            await self._apply(told)
            applied = len(told)
        except asyncpg.PostgresError:
            applied = await self._apply_singly(told)
        self.events += applied
        return [each["event_id"] for each in told]

    async def _apply_singly(self, told: list[dict[str, Any]]) -> int:
        """Some event cannot be applied, as it could not when it came: find it, leave it out."""
        applied = 0
        for each in told:
            try:
                await self._apply([each])
                applied += 1
            except asyncpg.PostgresError as error:
                reason = reason_of(error)
                self.skipped.append(SkippedEvent(event_id=each["event_id"], reason=reason))
        return applied

    async def _apply(self, told: list[dict[str, Any]]) -> None:
        async with self._connection.transaction():  # a savepoint
            batch = orjson.dumps(told).decode()
            await self._connection.execute(_APPLY, self._environment, batch, timeout=PATIENCE)


class Replay(Telling):
    """Tells the fresh tables everything."""

    def __init__(self, connection: Connection, environment: Environment) -> None:
        super().__init__(connection, environment)
        self._count_at = _BATCH  # events, each time twice as many

    async def run(self) -> None:
        """Tell the fresh tables all that they have not been told yet."""
        for statement in (*_ADOPTED, *_SESSIONS, _CLAIMS):
            await self._execute(statement)
        for kind, (table, key) in MIRRORED.items():
            query = _FETCHED.format(table=table, key=key, of_stripe=of_stripe(table, "live"))
            await self._tell(query, partial(self.show, kind))
        await self._execute(_TOMBSTONES)
        await self._tell(_FETCHED_PAYMENTS, self.apply_fetched)
        await self._tell(_ARCHIVE, self._apply_and_note)
        await self._tell(_LEDGER, self._apply_and_note)
        for kind, (table, key) in MIRRORED.items():
            ours = of_stripe(table, "live")
            query = _TIED.format(kind=kind, table=table, key=key, of_stripe=ours)
            forget = _FORGET.format(table=table, key=key)
            await self._tell(query, partial(self._decide, kind, forget))

    async def _execute(self, statement: str) -> None:
        await self._connection.execute(statement, self._environment, timeout=PATIENCE)

    async def _tell(self, query: str, tell: Callable[[Rows], Awaitable[None]]) -> None:
        await self.in_batches(query, tell, self._environment)

    async def _decide(self, kind: Kind, forget: str, rows: Rows) -> None:
        """Let that state win which won there."""
        await self._connection.execute(forget, self._environment, [row["key"] for row in rows])
        await self.show(kind, [row for row in rows if row["payload"] is None])
        events = [ledger.decode(row["payload"].encode()).event for row in rows if row["payload"]]
        await self._apply([_as_applied(each) for each in events])

    async def _apply_and_note(self, rows: Rows) -> None:
        await self._connection.execute(_NOTE, await self.apply_events(rows))
        if self.events >= self._count_at:
            self._count_at = 2 * self.events
            await fresh.count(self._connection)


def _as_applied(event: Event) -> dict[str, Any]:
    """An event as `_APPLY` takes it."""
    return {
        "changes": as_json(project(event), event),
        "at": event.created,
        "event_id": event.id,
        "object": event.object,
    }
