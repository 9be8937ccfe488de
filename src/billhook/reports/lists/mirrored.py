"""The lists of mirrored kinds, newest first, from their declarations."""

from __future__ import annotations

from billhook.models import MirroredList, MirroredQuery, MirroredRow
from billhook.models.queries import OfSubject
from billhook.reports.lists.searching import distinct
from billhook.reports.paging import Arguments, Conditions, Connections, Listing, Order, Page, Walk
from billhook.settings import Environment


async def mirrored(
    database: Connections, environment: Environment, of: MirroredList, query: MirroredQuery
) -> Page[MirroredRow]:
    """Objects of one kind, newest first."""
    page = await _listing(environment, of, query).page(database, query)
    rows = [of.row(**{name: row[name] for name in of.row.model_fields}) for row in page.rows]
    return Page(rows, page.next_cursor, page.previous_cursor)


def _listing(environment: Environment, of: MirroredList, query: MirroredQuery) -> Listing:
    """One scan of the index (environment, choice, time) for each choice; the few rows of one
    customer, subject or other object are sorted."""
    listed, table, at = of.of.listed, f"payments.{of.of.table}", of.of.time
    args = Arguments()
    where = Conditions(args)
    where.add("t.environment = {}", environment)
    found = f"t.id = ANY (ARRAY(SELECT x.id FROM {table} AS x WHERE x.environment = $1 AND {{}}))"
    for column in listed.references:
        value = getattr(query, listed.filter_of(column))
        where.add(found.format(f"x.{column} = {{}}"), value)
    if isinstance(query, OfSubject) and query.subject_id is not None:
        its_subject = found.format("x.subject_type = {} AND x.subject_id = {}")
        where.add(its_subject, query.subject_type, query.subject_id)
    is_few = len(where.clauses) > 1
    chosen = getattr(query, listed.choice)
    each = ""
    if chosen is not None:
        where.add(f"t.{listed.choice} = {{}}", chosen)
    elif not is_few:
        each = f"({distinct(listed.choice, table, 'environment = $1')}) AS of_choice"
        where.add(f"t.{listed.choice} = of_choice.{listed.choice}")
    walk = Walk(
        tuple(where.clauses),
        each,
        floor=f"{at} >= {args.add(query.since)}" if query.since else None,
        ceiling=f"{at} < {args.add(query.until)}" if query.until else None,
    )
    columns = ", ".join(f"t.{name}" for name in of.row.model_fields)
    newest = Order(((at, "time"), ("t.id", "uuid")), descending=True)
    return Listing(table, newest, (walk,), columns, args)
