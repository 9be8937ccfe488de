"""Who has access: settings, and the answer for one subject."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.access.permissions import changes
from billhook.http.body import read_json
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, answer
from billhook.models import Access, AccessQuery, AccessSettings, UpdateAccessSettings
from billhook.reports import granted
from billhook.services import ServicesOf

router = APIRouter(
    prefix="/api/payments/stripe/access",
    tags=["Access"],
    dependencies=ADMIN,
    route_class=AdminRoute,
)


@router.get(
    "",
    response_model=AccessSettings,
    responses=errors(400, 401, 403, 503),
    dependencies=NO_QUERY,
)
async def access_settings(services: ServicesOf) -> Response:
    """Get the environment whose subscriptions give access, and the grace period."""
    return answer(await granted.settings(services.database))


@router.patch(
    "",
    response_model=AccessSettings,
    responses=errors(400, 401, 403, 413, 503),
    dependencies=NO_QUERY,
    openapi_extra=body_of(UpdateAccessSettings),
)
@changes("access_settings.update")
async def update_access_settings(request: Request, services: ServicesOf) -> Response:
    """Change the environment or the grace period that policies use."""
    order = await read_json(request, UpdateAccessSettings)
    return answer(await granted.update_settings(services.database, order))


@router.get("/check", response_model=Access, responses=errors(400, 401, 403, 503))
async def check_access(services: ServicesOf, query: Annotated[AccessQuery, Query()]) -> Response:
    """Check whether a subject has access to a product, price, lookup key or feature. The result is
    the same as that of `payments.has_access` in a policy."""
    return answer(await granted.check(services.database, query))
