"""Movements of MRR, the newest first."""

from __future__ import annotations

from billhook.models import MovementsQuery, MrrMovement
from billhook.postgres import Database
from billhook.reports.lists.searching import distinct
from billhook.reports.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import Environment

_NEWEST = Order((("t.day", "day"), ("t.id", "uuid")), descending=True)
_KINDS = distinct("kind", "payments.mrr_movements", "environment = $1")
_COLUMNS = """t.environment, t.customer_id, c.email AS customer_email, c.name AS customer_name,
    t.currency, t.day, t.kind, t.amount, t.mrr"""
_CUSTOMER = """LEFT JOIN LATERAL (
    SELECT email, name FROM payments.customers AS of
    WHERE of.provider = 'stripe' AND of.environment = t.environment
      AND of.provider_customer_id = t.customer_id LIMIT 1) AS c ON true"""


async def movements(
    database: Database, environment: Environment, query: MovementsQuery
) -> Page[MrrMovement]:
    """How the MRR of customers changed, newest first."""
    args = Arguments()
    where = Conditions(args)
    where.add("t.environment = {}", environment)
    where.add("t.customer_id = {}", query.customer)
    where.add("t.currency = {}", query.currency)
    each = ""
    if query.kind is not None:
        where.add("t.kind = {}", query.kind)
    elif query.customer is None:
        each = f"({_KINDS}) AS of_kind"
        where.add("t.kind = of_kind.kind")
    walk = Walk(
        tuple(where.clauses),
        each,
        floor=f"t.day >= {args.add(query.since)}" if query.since else None,
        ceiling=f"t.day <= {args.add(query.until)}" if query.until else None,
    )
    table = "payments.mrr_movements"
    page = await Listing(table, _NEWEST, (walk,), _COLUMNS, args, _CUSTOMER).page(database, query)
    return Page([MrrMovement(**row) for row in page.rows], page.next_cursor, page.previous_cursor)
