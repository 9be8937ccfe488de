"""Usage that was recorded."""

from __future__ import annotations

from billhook.models import Usage, UsageQuery
from billhook.postgres import Database
from billhook.reports.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import Environment

_NEWEST = Order((("t.id", "integer"),), descending=True)
_OF_SUBJECT = """t.id = ANY (ARRAY(SELECT x.id FROM payments.usage AS x
    WHERE x.environment = $1 AND x.subject_type = {} AND x.subject_id = {}))"""
_OF_CUSTOMER = """t.id = ANY (ARRAY(SELECT x.id FROM payments.usage AS x
    WHERE x.environment = $1 AND x.subject_id IS NULL AND x.customer_id = {}))"""
_COLUMNS = ", ".join(f"t.{name}" for name in Usage.model_fields)


async def usage(database: Database, environment: Environment, query: UsageQuery) -> Page[Usage]:
    """Rows of usage, the last recorded first."""
    args = Arguments()
    where = Conditions(args)
    where.add("t.environment = {}", environment)
    if query.subject_id is not None:
        where.add(_OF_SUBJECT, query.subject_type, query.subject_id)
    where.add(_OF_CUSTOMER, query.customer)
    where.add("t.meter = {}", query.meter)
    if query.status is not None:
        where.add(f"t.status = '{query.status}'")  # literal, as in the indexes' conditions
    listing = Listing("payments.usage", _NEWEST, (Walk(tuple(where.clauses)),), _COLUMNS, args)
    page = await listing.page(database, query)
    return Page([Usage(**row) for row in page.rows], page.next_cursor, page.previous_cursor)
