"""The ledger: list, inspect and replay recorded webhook events (contract section 3.2)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.access.permissions import changes
from billhook.http.body import read_json, read_json_or
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, PathId, answer, page_headers
from billhook.ledger import replaying
from billhook.models import (
    EventsQuery,
    Replayed,
    ReplayedEvents,
    ReplayEvent,
    ReplayEvents,
    WebhookEventResponse,
    WebhookEvents,
)
from billhook.reports import lists
from billhook.services import ServicesOf
from billhook.settings import Environment

router = APIRouter(
    prefix="/api/payments/stripe/{environment}/webhook-events",
    tags=["Webhook events"],
    dependencies=ADMIN,
    route_class=AdminRoute,
)


@router.get(
    "",
    response_model=WebhookEvents,
    responses=errors(400, 401, 403, 503),
)
async def list_events(
    environment: Environment,
    request: Request,
    services: ServicesOf,
    query: Annotated[EventsQuery, Query()],
) -> Response:
    """List recorded events, most recently received first. The `Link` header contains the next
    page."""
    page = await lists.events(services.database, environment, query)
    return answer(WebhookEvents(webhook_events=page.rows), headers=page_headers(request, page))


@router.post(
    "/replay",
    dependencies=NO_QUERY,
    response_model=ReplayedEvents,
    responses=errors(400, 401, 403, 413, 503),
    openapi_extra=body_of(ReplayEvents),
)
@changes("events.replay", role="support")
async def replay_many(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Apply matching events again, oldest first. By default, these are the `failed` ones."""
    order = await read_json(request, ReplayEvents)
    return answer(await replaying.replay_many(services.ledger, environment, order))


@router.get(
    "/{event_id}",
    dependencies=NO_QUERY,
    response_model=WebhookEventResponse,
    responses=errors(400, 401, 403, 404, 503),
)
async def show(environment: Environment, event_id: PathId, services: ServicesOf) -> Response:
    """Get an event with Stripe's original payload."""
    found = await replaying.event(services.database, environment, event_id)
    return answer(WebhookEventResponse(webhook_event=found))


@router.post(
    "/{event_id}/replay",
    dependencies=NO_QUERY,
    response_model=Replayed,
    responses=errors(400, 401, 403, 404, 409, 413, 500, 503),
    openapi_extra=body_of(ReplayEvent, required=False),
)
@changes("event.replay", role="support", target="event_id")
async def replay(
    environment: Environment, event_id: PathId, request: Request, services: ServicesOf
) -> Response:
    """Apply an event again. If it was already processed, its rows are updated, but the app's
    triggers fire only with `refire`. If the event fails again, it is recorded as `failed`, and the
    response is a 500."""
    order = await read_json_or(request, ReplayEvent())
    found = await replaying.replay(services.ledger, environment, event_id, refire=order.refire)
    return answer(Replayed(webhook_event=found))
