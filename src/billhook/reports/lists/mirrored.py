"""The lists of mirrored kinds, newest first, from their declarations."""

from __future__ import annotations

import asyncpg

from billhook.errors import PaymentNotFound
from billhook.models import MirroredList, MirroredQuery, MirroredRow
from billhook.models.queries import OfSubject
from billhook.reports.lists.searching import distinct
from billhook.reports.paging import Arguments, Conditions, Connections, Listing, Order, Page, Walk
from billhook.settings import Environment


async def mirrored(
    database: Connections,
    environment: Environment,
    of: MirroredList,
    query: MirroredQuery,
    *,
    count_to: int | None = None,
) -> Page[MirroredRow]:
    """Objects of one kind, newest first."""
    page = await _listing(environment, of, query).page(database, query, count_to)
    return page.of([_row(of, row) for row in page.rows])


async def mirrored_one(
    database: Connections, environment: Environment, of: MirroredList, object_id: str
) -> MirroredRow:
    """One object of a kind.

    Raises:
        PaymentNotFound: the mirror does not have it.
    """
    columns = ", ".join(of.row.model_fields)
    async with database.connection() as connection:
        row = await connection.fetchrow(
            f"SELECT {columns} FROM payments.{of.of.table} "
            f"WHERE environment = $1 AND {of.of.key} = $2",
            environment,
            object_id,
        )
    if row is None:
        what = of.name.removesuffix("s").replace("_", " ")
        raise PaymentNotFound(
            f"There is no {what} {object_id} in the {environment} environment.",
            next_actions="Does it belong to the other environment? If Stripe has it, sync first.",
        )
    return _row(of, row)


def _row(of: MirroredList, row: asyncpg.Record) -> MirroredRow:
    return of.row(**{name: row[name] for name in of.row.model_fields})


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
