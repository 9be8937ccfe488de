"""Recorded webhook events."""

from __future__ import annotations

import re
from dataclasses import replace

from billhook.db import Database
from billhook.lists.searching import distinct
from billhook.models import EventsQuery, WebhookEvent
from billhook.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import Environment

_NEWEST = Order((("t.received_at", "time"), ("t.id", "uuid")), falling=True)
_ORDERS = {"newest": _NEWEST, "oldest": Order(_NEWEST.keys)}
_TABLE = "payments.webhook_events"
_TYPES = distinct("event_type", _TABLE, "environment = $1")
_OBJECT_TYPES = distinct("object_type", _TABLE, "environment = $1 AND object_id IS NOT NULL")
_TYPE = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)+")

_COLUMNS = """t.environment, t.provider_event_id AS event_id, t.event_type, t.livemode,
    t.provider_account_id AS account_id, t.object_type, t.object_id, t.processing_status,
    t.attempt_count, t.last_error, t.received_at, t.processed_at, t.created_at, t.updated_at"""
_DEAD = """
SELECT x.id FROM billhook.event_retries AS retry JOIN payments.webhook_events AS x
  ON x.provider = 'stripe' AND x.environment = retry.environment
 AND x.provider_event_id = retry.event_id
WHERE retry.environment = $1 AND retry.next_at = 'infinity'
"""


async def events(
    database: Database, environment: Environment, query: EventsQuery
) -> Page[WebhookEvent]:
    """Recorded events, the last received first unless `query.order` says otherwise."""
    page = await _listing(environment, query).page(database, query)
    return Page([WebhookEvent(**row) for row in page.rows], page.next_cursor, page.previous_cursor)


async def event_types(database: Database, environment: Environment) -> list[str]:
    """The types of events that the ledger holds, in the order of the alphabet."""
    async with database.connection() as connection:
        return [row["event_type"] for row in await connection.fetch(_TYPES, environment)]


def _listing(environment: Environment, query: EventsQuery) -> Listing:
    args = Arguments()
    where = Conditions(args)
    where.add("t.provider = 'stripe' AND t.environment = {}", environment)
    floor = f"t.received_at >= {args.add(query.since)}" if query.since else None
    ceiling = f"t.received_at < {args.add(query.until)}" if query.until else None
    # So few rows that they are sorted.
    sought = Conditions(args)
    if query.object_id is not None:
        sought.add(f"t.id = ANY (ARRAY({_of_object(args.add(query.object_id))}))")
    if query.dead_letter:
        sought.add(f"t.id = ANY (ARRAY({_DEAD}))")

    conditions = tuple(where.clauses)
    if query.search is None:
        walks = [_walk(args, query, conditions, tuple(sought.clauses))]
    elif query.search.endswith("*"):
        begin = args.add(query.search[:-1])
        of_type = f"starts_with({{event_type}}, {begin})"
        walks = [_walk(args, query, conditions, tuple(sought.clauses), of_type)]
    else:
        text = args.add(query.search)
        walks = [
            _walk(args, query, conditions, (*sought.clauses, f"t.id = ANY (ARRAY({_named(text)}))"))
        ]
        if _TYPE.fullmatch(query.search):
            of_type = f"{{event_type}} = {text}"
            walks.append(_walk(args, query, conditions, tuple(sought.clauses), of_type))
    bounded = tuple(replace(walk, floor=floor, ceiling=ceiling) for walk in walks)
    return Listing(_TABLE, _ORDERS[query.order], bounded, _COLUMNS, args)


def _walk(
    args: Arguments,
    query: EventsQuery,
    conditions: tuple[str, ...],
    sought: tuple[str, ...],
    of_type: str | None = None,
) -> Walk:
    """Along the ledger, or along its part of each type and status that fits."""
    more = Conditions(args)
    filtered = of_type is not None or query.type is not None or query.status is not None
    if sought or not filtered:
        more.add("t.event_type = {}", query.type)
        more.add("t.processing_status = {}", query.status)
        if of_type is not None:
            more.add(of_type.format(event_type="t.event_type"))
        return Walk((*conditions, *sought, *more.clauses))
    each = f"({_TYPES}) AS of_type"
    if query.type is not None:
        each = f"(SELECT {args.add(query.type)}::text AS event_type) AS of_type"
    more.add("t.event_type = of_type.event_type")
    if of_type is not None:
        more.add(of_type.format(event_type="of_type.event_type"))
    statuses = [query.status] if query.status else ["pending", "processed", "failed", "ignored"]
    each += f" CROSS JOIN unnest({args.add(statuses)}::text[]) AS of_status(status)"
    more.add("t.processing_status = of_status.status")
    return Walk((*conditions, *more.clauses), each)


def _named(text: str) -> str:
    """SELECT of the event with this id, or those of the object with this id."""
    return f"""
        SELECT x.id FROM payments.webhook_events AS x
        WHERE x.provider = 'stripe' AND x.environment = $1 AND x.provider_event_id = {text}
        UNION ALL {_of_object(text)}"""


def _of_object(object_id: str) -> str:
    """SELECT of the events of an object. The index begins with the object's type: it is looked up
    for each type that the ledger knows, a few dozen at most."""
    return f"""
        SELECT x.id FROM ({_OBJECT_TYPES}) AS known JOIN payments.webhook_events AS x
          ON x.environment = $1 AND x.object_type = known.object_type
         AND x.object_id = {object_id}
        UNION ALL
        SELECT x.id FROM payments.webhook_events AS x
        WHERE x.environment = $1 AND x.object_type IS NULL AND x.object_id = {object_id}"""
