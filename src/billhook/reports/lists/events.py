"""Recorded webhook events."""

from __future__ import annotations

import re
from dataclasses import replace

from billhook.models import EventsQuery, WebhookEvent
from billhook.postgres import Database
from billhook.reports.lists.searching import distinct
from billhook.reports.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import Environment

_NEWEST = Order((("t.received_at", "time"), ("t.id", "uuid")), descending=True)
_ORDERS = {"newest": _NEWEST, "oldest": Order(_NEWEST.keys)}
_TABLE = "payments.webhook_events"
# The index of types leaves out what is pending: as good as nothing, once an event is applied.
TYPES = distinct("event_type", _TABLE, "environment = $1 AND processing_status <> 'pending'")
"""A query: the types of events in the ledger."""
_ALL_TYPES = f"""
SELECT event_type FROM ({TYPES}) AS of_type
UNION
SELECT event_type FROM payments.webhook_events
WHERE provider = 'stripe' AND environment = $1 AND processing_status = 'pending'
ORDER BY event_type
"""
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
    database: Database,
    environment: Environment,
    query: EventsQuery,
    *,
    count_to: int | None = None,
) -> Page[WebhookEvent]:
    """Recorded events, most recently received first unless `query.order` says otherwise."""
    page = await _listing(environment, query).page(database, query, count_to)
    return page.of([WebhookEvent(**row) for row in page.rows])


async def event_types(database: Database, environment: Environment) -> list[str]:
    """The types of events in the ledger, in alphabetical order."""
    async with database.connection() as connection:
        return [row["event_type"] for row in await connection.fetch(_ALL_TYPES, environment)]


def _listing(environment: Environment, query: EventsQuery) -> Listing:
    args = Arguments()
    where = Conditions(args)
    where.add("t.provider = 'stripe' AND t.environment = {}", environment)
    floor = f"t.received_at >= {args.add(query.since)}" if query.since else None
    ceiling = f"t.received_at < {args.add(query.until)}" if query.until else None
    # Few rows, which are sorted.
    sought = Conditions(args)
    if query.object_id is not None:
        sought.add(f"t.id = ANY (ARRAY({_of_object(args.add(query.object_id))}))")
    if query.dead_letter:
        sought.add(f"t.id = ANY (ARRAY({_DEAD}))")

    common, by_id = tuple(where.clauses), tuple(sought.clauses)
    if query.search is None:
        walks = _walks(args, query, common, by_id)
    elif query.search.endswith("*"):
        begin = args.add(query.search[:-1])
        walks = _walks(args, query, common, by_id, f"starts_with({{0}}, {begin})")
    else:
        text = args.add(query.search)
        walks = _walks(args, query, common, (*by_id, f"t.id = ANY (ARRAY({_named(text)}))"))
        if _TYPE.fullmatch(query.search):
            walks += _walks(args, query, common, by_id, f"{{0}} = {text}")
    bounded = tuple(replace(walk, floor=floor, ceiling=ceiling) for walk in walks)
    return Listing(_TABLE, _ORDERS[query.order], bounded, _COLUMNS, args)


def _walks(
    args: Arguments,
    query: EventsQuery,
    common: tuple[str, ...],
    by_id: tuple[str, ...],
    of_type: str | None = None,
) -> list[Walk]:
    """Scans of the ledger, or of its part for each matching type and status.

    Args:
        of_type: a condition of the search, for `{0}`, the type.
    """
    its_type = None if query.type is None else args.add(query.type)
    of_types = [each for each in (its_type and f"{{0}} = {its_type}", of_type) if each]
    fitting = [each.format("t.event_type") for each in of_types]
    if by_id or not (of_types or query.status):
        more = Conditions(args)
        more.add("t.processing_status = {}", query.status)
        return [Walk((*common, *by_id, *fitting, *more.clauses))]
    walks = []
    if query.status in (None, "pending"):
        walks.append(Walk((*common, *fitting, "t.processing_status = 'pending'")))
    if query.status != "pending":
        types = f"SELECT {its_type}::text AS event_type" if its_type else TYPES
        done = [query.status] if query.status else ["processed", "failed", "ignored"]
        each = (
            f"({types}) AS of_type CROSS JOIN "
            f"pg_catalog.unnest({args.add(done)}::text[]) AS of_status(status)"
        )
        fits = (
            *(each.format("of_type.event_type") for each in of_types),
            "t.event_type = of_type.event_type",
            "t.processing_status = of_status.status",
            "t.processing_status <> 'pending'",
        )
        walks.append(Walk((*common, *fits), each))
    return walks


def _named(text: str) -> str:
    """SELECT of the event with this id, or those of the object with this id."""
    return f"""
        SELECT x.id FROM payments.webhook_events AS x
        WHERE x.provider = 'stripe' AND x.environment = $1 AND x.provider_event_id = {text}
        UNION ALL {_of_object(text)}"""


def _of_object(object_id: str) -> str:
    """SELECT of the events of an object. The index begins with the object's type, so it is searched
    for each type in the ledger, a few dozen at most."""
    return f"""
        SELECT x.id FROM ({_OBJECT_TYPES}) AS known JOIN payments.webhook_events AS x
          ON x.environment = $1 AND x.object_type = known.object_type
         AND x.object_id = {object_id}
        UNION ALL
        SELECT x.id FROM payments.webhook_events AS x
        WHERE x.environment = $1 AND x.object_type IS NULL AND x.object_id = {object_id}"""
