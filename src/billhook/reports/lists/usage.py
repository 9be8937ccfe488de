"""Usage that was recorded."""

from __future__ import annotations

from collections.abc import Sequence

from billhook.models import Usage, UsageQuery
from billhook.postgres import Database
from billhook.reports.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import Environment

_NEWEST = Order((("t.occurred_at", "time"), ("t.id", "integer")), descending=True)
_COLUMNS = ", ".join(f"t.{name}" for name in Usage.model_fields)
# The values of an index's next columns, after those that the condition names: each is found after
# the one before it. For each of them, the index has the rows in the order of the list.
_EACH = """(
    WITH RECURSIVE kinds({columns}) AS (
        (SELECT {columns} FROM payments.usage WHERE {condition} ORDER BY {columns} LIMIT 1)
        UNION ALL
        SELECT following.* FROM kinds AS k CROSS JOIN LATERAL (
            SELECT {columns} FROM payments.usage AS u
            WHERE {condition} AND ({of_u}) > ({of_k})
            ORDER BY {of_u} LIMIT 1) AS following
    ) SELECT {columns} FROM kinds) AS kind"""


async def usage(database: Database, environment: Environment, query: UsageQuery) -> Page[Usage]:
    """Rows of usage, the last used first."""
    args = Arguments()
    scope = Conditions(args)
    scope.add("environment = {}", environment)
    columns = ["meter"]
    if query.subject_id is not None:
        scope.add("subject_type = {} AND subject_id = {}", query.subject_type, query.subject_id)
        scope.add("customer_id = {}", query.customer)
    elif query.customer is not None:
        scope.add("subject_id IS NULL AND customer_id = {}", query.customer)
    else:
        columns.insert(0, "status")
    of_kind = [f"{each} = kind.{each}" for each in columns]
    where = Conditions(args)
    where.add("meter = {}", query.meter)
    where.add("status = {}", query.status)
    walk = Walk((*scope.clauses, *where.clauses, *of_kind), each=_each(scope, columns))
    listing = Listing("payments.usage", _NEWEST, (walk,), _COLUMNS, args)
    page = await listing.page(database, query)
    return Page([Usage(**row) for row in page.rows], page.next_cursor, page.previous_cursor)


def _each(scope: Conditions, columns: Sequence[str]) -> str:
    return _EACH.format(
        columns=", ".join(columns),
        condition=" AND ".join(scope.clauses),
        of_u=", ".join(f"u.{each}" for each in columns),
        of_k=", ".join(f"k.{each}" for each in columns),
    )
