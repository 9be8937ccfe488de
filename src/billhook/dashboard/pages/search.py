"""The search over everything. A Stripe id leads straight to its page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from starlette.responses import RedirectResponse, Response

from billhook.dashboard.links import page_of
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError
from billhook.ledger import replaying
from billhook.models import LISTS
from billhook.postgres import Database
from billhook.reports import catalog, lists
from billhook.reports.search import Found, search
from billhook.settings import Environment

_MOST = 200


async def show(visit: Visit) -> Response:
    """What was found, by kind."""
    database, environment = visit.services.database, visit.environment
    text = visit.request.query_params.get("q", "").strip().replace("\0", "")[:_MOST]
    if page := await _page(visit, text):
        return RedirectResponse(visit.path(page), 303)
    found = await search(database, environment, text) if text else Found()
    return visit.show(
        "search.html",
        searched=text,
        found=found,
        payment_labels=await lists.payment_labels(database, environment, found.payments),
        labels=await lists.subscription_labels(database, environment, found.subscriptions),
        names=await lists.customer_names(
            database, environment, [each.customer_id for each in found.invoices]
        ),
    )


async def _page(visit: Visit, text: str) -> str | None:
    """The page of the object whose id `text` is, if it exists."""
    page = page_of(text)
    if page is None or " " in text:
        return None
    try:
        exists = await _READERS[page.split("/")[1]](
            visit.services.database, visit.environment, text
        )
    except BillhookError as error:
        if error.status >= 500:
            raise
        return None
    return page if exists else None


async def _invoice(database: Database, environment: Environment, invoice_id: str) -> object:
    return await lists.mirrored_one(database, environment, LISTS["invoices"], invoice_id)


async def _dispute(database: Database, environment: Environment, dispute_id: str) -> object:
    return await lists.mirrored_one(database, environment, LISTS["disputes"], dispute_id)


_READERS: Mapping[str, Callable[[Database, Environment, str], Awaitable[object]]] = {
    "transactions": lists.payment,
    "customers": lists.customer,
    "subscriptions": lists.subscription,
    "invoices": _invoice,
    "disputes": _dispute,
    "catalog": catalog.product,
    "events": replaying.event,
}
"""By the first step of the page: reads an object, or says that there is none."""
