"""The audit log."""

from __future__ import annotations

from billhook.access.permissions import Grant
from billhook.models import AuditEntry, AuditQuery
from billhook.postgres import Database
from billhook.reports.paging import Arguments, Conditions, Listing, Order, Page, Walk
from billhook.settings import ENVIRONMENTS

_TABLE = "billhook.audit_log"
_NEWEST = Order((("t.id", "integer"),), descending=True)
_COLUMNS = ", ".join(f"t.{name}" for name in AuditEntry.model_fields)


async def audit_log(database: Database, grant: Grant, query: AuditQuery) -> Page[AuditEntry]:
    """Entries, newest first, of the environments that `grant` allows."""
    args = Arguments()
    where = Conditions(args)
    of_both = set(ENVIRONMENTS) <= set(grant.environments)
    visible = f"t.environment = ANY ({args.add(list(grant.environments))})"
    where.add(f"({visible} OR t.environment IS NULL)" if of_both else visible)
    where.add("t.environment = {}", query.environment)
    where.add("t.action = {}", query.action)
    where.add("t.target = {}", query.target)
    where.add("t.key_id = {}", query.key_id)
    where.add("t.outcome = {}", query.outcome)
    where.add("t.at >= {}", query.since)
    where.add("t.at < {}", query.until)
    listing = Listing(_TABLE, _NEWEST, (Walk(tuple(where.clauses)),), _COLUMNS, args)
    page = await listing.page(database, query)
    return Page([AuditEntry(**row) for row in page.rows], page.next_cursor, page.previous_cursor)
