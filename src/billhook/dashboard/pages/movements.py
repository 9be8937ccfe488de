"""How the monthly recurring revenue of customers changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import get_args

from starlette.responses import Response

from billhook.dashboard.pages.exports import exported, text
from billhook.dashboard.visit import Visit
from billhook.models import MovementKind, MovementsQuery, MrrMovement
from billhook.money import decimal_text
from billhook.reports import lists

_COLUMNS = ("day", "kind", "customer", "name", "email", "currency", "change", "mrr")


async def listing(visit: Visit) -> Response:
    """Movements, newest first."""
    query = visit.query(MovementsQuery, of_days=True)
    page = await lists.movements(visit.services.database, visit.environment, query)
    return visit.show("movements.html", page=page, kinds=get_args(MovementKind))


async def export(visit: Visit) -> Response:
    """The complete list as CSV."""
    database, environment = visit.services.database, visit.environment

    async def read(part: MovementsQuery) -> lists.Page[MrrMovement]:
        return await lists.movements(database, environment, part)

    query = visit.query(MovementsQuery, of_days=True)
    return exported(visit, "mrr-movements", query, _COLUMNS, read, _lines)


async def _lines(rows: Sequence[MrrMovement]) -> Iterable[list[str]]:
    return map(_line, rows)


def _line(m: MrrMovement) -> list[str]:
    return [
        str(m.day),
        m.kind,
        text(m.customer_id),
        text(m.customer_name),
        text(m.customer_email),
        m.currency.upper(),
        decimal_text(m.amount, m.currency),
        decimal_text(m.mrr, m.currency),
    ]
