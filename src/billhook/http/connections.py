"""Keys, status, webhook endpoint and sync (contract section 3.2)."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import APIRouter, Request, Response

from billhook.access.auth import Caller
from billhook.access.permissions import changes, filters
from billhook.http.body import read_json, read_json_or
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, Admin, AdminRoute, PathId, answer
from billhook.mirror import rebuild, verify
from billhook.mirror.status import mirror_status
from billhook.models import (
    AddEvents,
    Config,
    ConfiguredKey,
    Connection,
    ConnectionResponse,
    EndpointEvents,
    ImportOrder,
    ImportProgress,
    MirrorStatusResponse,
    RebuildOrder,
    RebuiltResponse,
    SetKey,
    Status,
    SyncProgress,
    SyncResponse,
    VerificationResponse,
    Verify,
)
from billhook.services import ServicesOf
from billhook.settings import ENVIRONMENTS, Environment

E = TypeVar("E", Connection, ConfiguredKey)

router = APIRouter(
    prefix="/api/payments/stripe",
    tags=["Connection"],
    dependencies=[*ADMIN, *NO_QUERY],
    route_class=AdminRoute,
)


@router.get("/status", response_model=Status, responses=errors(400, 401, 403, 503))
@filters("viewer")
async def status(sender: Admin, services: ServicesOf) -> Response:
    """Get the account, webhook endpoint and last sync result of both environments, or of the only
    one that the key is for."""
    found = await services.connections.status()
    return answer(Status(connections=_visible(sender, found.connections)))


@router.get("/config", response_model=Config, responses=errors(400, 401, 403, 503))
@filters("viewer")
async def config(sender: Admin, services: ServicesOf) -> Response:
    """Show which environments have a Stripe key. `value` is masked; the key itself is never
    shown."""
    found = await services.connections.config()
    return answer(Config(keys=_visible(sender, found.keys)))


@router.put(
    "/{environment}/config",
    response_model=Config,
    responses=errors(400, 401, 403, 409, 413, 429, 502, 503),
    openapi_extra=body_of(SetKey),
)
@changes("stripe_key.set")
async def set_key(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Set the Stripe key. Billhook checks the key with Stripe and stores it, then sets up the
    webhook endpoint and syncs the mirror. A key of another account archives the rows of the
    previous account."""
    order = await read_json(request, SetKey)
    await services.stripe_keys.set(
        environment, order.secret_key, replace_account=order.replace_account
    )
    return answer(await services.connections.config())


@router.delete(
    "/{environment}/config", response_model=Config, responses=errors(400, 401, 403, 404, 409, 503)
)
@changes("stripe_key.remove")
async def remove_key(environment: Environment, services: ServicesOf) -> Response:
    """Remove the Stripe key and the managed webhook endpoint. Mirrored rows are kept."""
    await services.stripe_keys.remove(environment)
    return answer(await services.connections.config())


def _visible(sender: Caller, found: list[E]) -> list[E]:
    """What the sender's key may see."""
    assert sender.grant is not None
    return [each for each in found if each.environment in sender.grant.environments]


@router.get(
    "/{environment}/mirror",
    response_model=MirrorStatusResponse,
    responses=errors(400, 401, 403, 503),
)
async def mirror(environment: Environment, services: ServicesOf) -> Response:
    """Get the state of the mirror: lag, failed events, dead letters, objects to refresh."""
    found = await mirror_status(services.database, environment)
    return answer(MirrorStatusResponse(mirror=found))


@router.post(
    "/{environment}/verify",
    response_model=VerificationResponse,
    responses=errors(400, 401, 403, 409, 413, 429, 502, 503),
    openapi_extra=body_of(Verify, required=False),
)
@changes("mirror.verify")
async def verify_environment(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Compare all mirrored objects except payment methods, and all payments, with Stripe. `repair`
    fixes the differences."""
    order = await read_json_or(request, Verify())
    found = await verify.verify(services.ledger, services.gateway, environment, order)
    return answer(VerificationResponse(verification=found))


@router.get(
    "/{environment}/verify",
    response_model=VerificationResponse,
    responses=errors(400, 401, 403, 503),
)
async def last_verification(environment: Environment, services: ServicesOf) -> Response:
    """Get the last comparison with Stripe, manual or scheduled, or null if there is none."""
    found = await verify.last(services.database, environment)
    return answer(VerificationResponse(verification=found))


@router.post(
    "/{environment}/rebuild",
    response_model=RebuiltResponse,
    responses=errors(400, 401, 403, 409, 413, 503),
    openapi_extra=body_of(RebuildOrder, required=False),
)
@changes("mirror.rebuild")
async def rebuild_environment(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Recreate every projected row from the ledger, without calling Stripe, and compare it with the
    current one. `swap` replaces rows that differ."""
    order = await read_json_or(request, RebuildOrder())
    found = await rebuild.rebuild(services.database, environment, order)
    return answer(RebuiltResponse(rebuild=found))


@router.post("/sync", response_model=SyncResponse, responses=errors(400, 401, 403, 503))
@changes("mirror.sync")
async def sync_all(services: ServicesOf) -> Response:
    """Sync both environments. If Stripe returns an error, the status is still 200, and the error is
    in the connection."""
    results = await asyncio.gather(*(services.sync.run(each) for each in ENVIRONMENTS))
    return answer(SyncResponse(results=list(results)))


@router.post(
    "/{environment}/sync", response_model=SyncResponse, responses=errors(400, 401, 403, 503)
)
@changes("mirror.sync")
async def sync(environment: Environment, services: ServicesOf) -> Response:
    """Sync one environment. Joins a sync that is already running."""
    return answer(SyncResponse(results=[await services.sync.run(environment)]))


@router.get(
    "/{environment}/sync", response_model=SyncProgress, responses=errors(400, 401, 403, 503)
)
async def progress(environment: Environment, services: ServicesOf) -> Response:
    """Get the progress of the current sync, or of the last one."""
    return answer(await services.sync.progress(environment))


@router.post(
    "/{environment}/import",
    status_code=202,
    response_model=ImportProgress,
    responses=errors(400, 401, 403, 413, 503),
    openapi_extra=body_of(ImportOrder, required=False),
)
@changes("history.import")
async def start_import(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Import the account's history in the background: payments, refunds, Checkout Sessions and
    invoices from before it was connected. Continues an import that is not finished."""
    order = await read_json_or(request, ImportOrder())
    return answer(await services.history.request(environment, order.since), 202)


@router.get(
    "/{environment}/import", response_model=ImportProgress, responses=errors(400, 401, 403, 503)
)
async def import_progress(environment: Environment, services: ServicesOf) -> Response:
    """Get the progress of the current import, or of the last one."""
    return answer(await services.history.progress(environment))


@router.post(
    "/{environment}/webhook",
    response_model=ConnectionResponse,
    responses=errors(400, 401, 403, 409, 429, 502, 503),
)
@changes("webhook_endpoint.configure")
async def configure_webhook(environment: Environment, services: ServicesOf) -> Response:
    """Create or repair the managed webhook endpoint in Stripe."""
    connection = await services.stripe_keys.configure_webhook(environment)
    return answer(ConnectionResponse(connection=connection))


@router.get(
    "/{environment}/webhook/events",
    response_model=EndpointEvents,
    responses=errors(400, 401, 403, 503),
)
async def events(environment: Environment, services: ServicesOf) -> Response:
    """The event types that Billhook receives: those that it always receives and those that were
    added."""
    return answer(await services.stripe_keys.events(environment))


@router.post(
    "/{environment}/webhook/events",
    response_model=EndpointEvents,
    responses=errors(400, 401, 403, 409, 413, 429, 502, 503),
    openapi_extra=body_of(AddEvents),
)
@changes("webhook_endpoint.add_events")
async def add_events(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Receive more event types, so that the app's triggers on `payments.webhook_events` see them.
    The managed endpoint is updated; without a public URL, the types are pulled."""
    order = await read_json(request, AddEvents)
    return answer(await services.stripe_keys.add_events(environment, order.types))


@router.delete(
    "/{environment}/webhook/events/{event_type}",
    response_model=EndpointEvents,
    responses=errors(400, 401, 403, 409, 429, 502, 503),
)
@changes("webhook_endpoint.remove_event", target="event_type")
async def remove_event(
    environment: Environment, event_type: PathId, services: ServicesOf
) -> Response:
    """Stop receiving an event type that was added. Recorded events are kept."""
    return answer(await services.stripe_keys.remove_events(environment, [event_type]))
