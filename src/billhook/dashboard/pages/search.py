"""The search over everything. A Stripe id leads straight to its page."""

from __future__ import annotations

from starlette.responses import RedirectResponse, Response

from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError
from billhook.ledger import replaying
from billhook.models import LISTS
from billhook.paths import encoded
from billhook.reports import lists
from billhook.reports.search import Found, search

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
    database, environment = visit.services.database, visit.environment
    prefix, underscore, rest = text.partition("_")
    if not (underscore and rest) or " " in text:
        return None
    try:
        match prefix:
            case "cus":
                await lists.customer(database, environment, text)
                return f"/customers/{encoded(text)}"
            case "sub":
                found = await lists.subscription(database, environment, text)
                return f"/subscriptions/{encoded(text)}" if found else None
            case "in":
                await lists.mirrored_one(database, environment, LISTS["invoices"], text)
                return f"/invoices/{encoded(text)}"
            case "dp" | "du" | "pdp":
                await lists.mirrored_one(database, environment, LISTS["disputes"], text)
                return f"/disputes/{encoded(text)}"
            case "evt":
                await replaying.event(database, environment, text)
                return f"/events/{encoded(text)}"
            case "pi" | "ch" | "py" | "cs" | "re" | "pyr":
                await lists.payment(database, environment, text)
                return f"/transactions/{encoded(text)}"
    except BillhookError as error:
        if error.status >= 500:
            raise
    return None
