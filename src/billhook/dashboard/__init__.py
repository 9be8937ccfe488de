"""The dashboard. Pages are rendered on the server; two small scripts show times in the viewer's
time zone, copy ids, and update live content.

`guard` protects every page; `visit` holds the request that a page handles; each module of `pages`
is one menu item. Pages call the same functions as the API's routes and contain no rules.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from billhook.dashboard.guard import Guard
from billhook.dashboard.pages import (
    actions,
    audit,
    catalog,
    customers,
    disputes,
    events,
    invoices,
    keys,
    movements,
    overview,
    search,
    settings,
    sign_in,
    subscriptions,
    transactions,
)
from billhook.dashboard.rendering import STATIC, Templates
from billhook.dashboard.sessions import Sessions
from billhook.dashboard.visit import Handler, Visit, page
from billhook.errors import BillhookError, NotFound
from billhook.services import Services

PATH = "/dashboard"
"""Where it is mounted."""


def install(app: Starlette) -> Starlette:
    """Mount the dashboard at `PATH` of `app`; `hand_over` passes it the services.

    Returns:
        The dashboard, an application of its own.
    """
    dashboard = Starlette(
        routes=_routes(),
        middleware=[Middleware(Guard)],
        exception_handlers={BillhookError: _known, 404: _missing, 405: _missing},
    )
    dashboard.state.templates = Templates()
    dashboard.state.work = set()

    async def enter(request: Request) -> Response:
        return RedirectResponse(f"{request.scope['root_path']}{PATH}/")

    app.router.routes += [Route(PATH, enter), Mount(PATH, dashboard)]
    return dashboard


def hand_over(dashboard: Starlette, services: Services) -> None:
    """Pass the services of the enclosing application to the dashboard, at startup."""
    dashboard.state.services = services
    dashboard.state.sessions = Sessions(
        services.database, services.auth, services.api_keys, services.settings
    )


def _routes() -> list[Route | Mount]:
    """Every page and every form."""
    here = "/{environment}"
    return [
        Mount("/static", StaticFiles(directory=STATIC), name="static"),
        _get("/", overview.enter),
        _get("/sign-in", sign_in.ask),
        _post("/sign-in", sign_in.submit),
        _post("/sign-out", sign_in.leave),
        _get(here, overview.show),
        _get(f"{here}/search", search.show),
        _get(f"{here}/catalog", catalog.listing),
        _get(f"{here}/catalog.csv", catalog.export),
        _get(f"{here}/new-product", catalog.new_product),
        _post(f"{here}/new-product", catalog.create_product),
        _get(f"{here}/catalog/{{product}}", catalog.show),
        _post(f"{here}/catalog/{{product}}", catalog.update_product),
        _post(f"{here}/catalog/{{product}}/status", catalog.set_status),
        _post(f"{here}/catalog/{{product}}/prices", catalog.create_price),
        _post(f"{here}/catalog/{{product}}/prices/{{price}}", catalog.update_price),
        _get(f"{here}/customers", customers.listing),
        _get(f"{here}/customers.csv", customers.export),
        _get(f"{here}/customers/{{customer}}", customers.show),
        _get(f"{here}/customers/{{customer}}/subject", actions.ask_subject),
        _post(f"{here}/customers/{{customer}}/subject", actions.assign),
        _get(f"{here}/subscriptions", subscriptions.listing),
        _get(f"{here}/subscriptions.csv", subscriptions.export),
        _get(f"{here}/subscriptions/{{subscription}}", subscriptions.show),
        _get(f"{here}/subscriptions/{{subscription}}/cancel", actions.ask_cancel),
        _post(f"{here}/subscriptions/{{subscription}}/cancel", actions.cancel),
        _get(f"{here}/subscriptions/{{subscription}}/resume", actions.ask_resume),
        _post(f"{here}/subscriptions/{{subscription}}/resume", actions.resume),
        _get(f"{here}/subscriptions/{{subscription}}/change", actions.ask_change),
        _post(f"{here}/subscriptions/{{subscription}}/change", actions.change),
        _get(f"{here}/invoices", invoices.listing),
        _get(f"{here}/invoices.csv", invoices.export),
        _get(f"{here}/invoices/{{invoice}}", invoices.show),
        _get(f"{here}/disputes", disputes.listing),
        _get(f"{here}/disputes.csv", disputes.export),
        _get(f"{here}/disputes/{{dispute}}", disputes.show),
        _get(f"{here}/transactions", transactions.listing),
        _get(f"{here}/transactions.csv", transactions.export),
        _get(f"{here}/transactions/{{reference}}", transactions.show),
        _get(f"{here}/transactions/{{reference}}/refund", actions.ask_refund),
        _post(f"{here}/transactions/{{reference}}/refund", actions.refund),
        _get(f"{here}/mrr-movements", movements.listing),
        _get(f"{here}/mrr-movements.csv", movements.export),
        _get(f"{here}/events", events.listing),
        _get(f"{here}/events.csv", events.export),
        _get(f"{here}/events/live", events.live),
        _post(f"{here}/events/replay", events.replay_many),
        _get(f"{here}/events/{{event}}", events.show),
        _get(f"{here}/events/{{event}}/payload", events.payload),
        _get(f"{here}/events/{{event}}/resend", actions.ask_resend),
        _post(f"{here}/events/{{event}}/replay", events.replay),
        _get(f"{here}/settings", settings.show),
        _get(f"{here}/settings/mirror", settings.show_mirror),
        _get(f"{here}/settings/policies", settings.show_policies),
        _post(f"{here}/settings/key", settings.set_key),
        _post(f"{here}/settings/key/remove", settings.remove_key),
        _post(f"{here}/settings/endpoint", settings.configure_endpoint),
        _get(f"{here}/settings/sync", settings.progress),
        _post(f"{here}/settings/sync", settings.sync),
        _get(f"{here}/settings/verify", settings.verification),
        _post(f"{here}/settings/verify", settings.verify_now),
        _get(f"{here}/settings/import", settings.imported),
        _post(f"{here}/settings/import", settings.import_history),
        _post(f"{here}/settings/archives/{{archive:uuid}}", settings.restore),
        _get(f"{here}/keys", keys.listing),
        _post(f"{here}/keys", keys.create),
        _post(f"{here}/keys/{{key:uuid}}/rotate", keys.rotate),
        _post(f"{here}/keys/{{key:uuid}}/revoke", keys.revoke),
        _get(f"{here}/audit-log", audit.listing),
        _get(f"{here}/audit-log.csv", audit.export),
    ]


def _get(path: str, handler: Handler) -> Route:
    return Route(path, page(handler), methods=["GET"])


def _post(path: str, handler: Handler) -> Route:
    return Route(path, page(handler), methods=["POST"])


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, BillhookError)
    return Visit(request).error(error)


async def _missing(request: Request, _error: Exception) -> Response:
    nothing = NotFound("There is no such page.", next_actions="Choose one from the menu.")
    return Visit(request).error(nothing)
