"""Usage, meters and billing credits (beyond the contract)."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from billhook.access.permissions import METER, changes
from billhook.http.body import read_json
from billhook.http.openapi import body_of, errors
from billhook.http.routes import ADMIN, NO_QUERY, AdminRoute, PathId, answer, page_headers
from billhook.models import (
    CreateMeter,
    CreditGrantResponse,
    Credits,
    CreditsQuery,
    GrantCredits,
    MeterResponse,
    RecordedUsage,
    RecordUsage,
    RetriedUsage,
    RetryUsage,
    UsageList,
    UsageQuery,
    UsageStateResponse,
    UsageTotals,
    UsageTotalsQuery,
)
from billhook.reports import credits, lists, meters
from billhook.services import ServicesOf
from billhook.settings import Environment
from billhook.usage import recording, retrying, state

router = APIRouter(
    prefix="/api/payments/stripe/{environment}",
    tags=["Usage"],
    dependencies=ADMIN,
    route_class=AdminRoute,
)
_READ = errors(400, 401, 403, 503)
_CREATE = errors(400, 401, 403, 413, 429, 502, 503)
_CHANGE = errors(400, 401, 403, 404, 429, 502, 503)


@router.post(
    "/usage",
    status_code=201,
    dependencies=NO_QUERY,
    response_model=RecordedUsage,
    responses=errors(400, 401, 403, 409, 413, 503),
    openapi_extra=body_of(RecordUsage),
)
async def record(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Record up to 1,000 usage entries, all or none. Safe to repeat if each has an
    `identifier`."""
    order = await read_json(request, RecordUsage)
    return answer(await recording.record(services.database, environment, order), 201)


@router.get("/usage", response_model=UsageList, responses=_READ)
async def list_usage(
    environment: Environment,
    request: Request,
    services: ServicesOf,
    query: Annotated[UsageQuery, Query()],
) -> Response:
    """List recorded usage, most recent first. The `Link` header contains the next page."""
    page = await lists.usage(services.database, environment, query)
    return answer(UsageList(usage=page.rows), headers=page_headers(request, page))


@router.get("/usage/totals", response_model=UsageTotals, responses=_READ)
async def totals(
    environment: Environment, services: ServicesOf, query: Annotated[UsageTotalsQuery, Query()]
) -> Response:
    """What a subject has used of each meter in the current period of its subscription, or in this
    calendar month."""
    return answer(await state.totals(services.database, environment, query))


@router.get(
    "/usage/status", dependencies=NO_QUERY, response_model=UsageStateResponse, responses=_READ
)
async def status(environment: Environment, services: ServicesOf) -> Response:
    """Get the state of sending: how much usage is unsent, waiting or failed, and for how long."""
    found = await state.usage_state(services.database, environment)
    return answer(UsageStateResponse(usage=found))


@router.post(
    "/usage/retry",
    dependencies=NO_QUERY,
    response_model=RetriedUsage,
    responses=errors(400, 401, 403, 413, 503),
    openapi_extra=body_of(RetryUsage),
)
@changes("usage.retry")
async def retry(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Resend usage that Stripe rejected, or resolve usage that Stripe may or may not have."""
    order = await read_json(request, RetryUsage)
    return answer(await retrying.retry(services.database, environment, order))


@router.post(
    "/meters",
    status_code=201,
    dependencies=NO_QUERY,
    response_model=MeterResponse,
    responses=_CREATE,
    openapi_extra=body_of(CreateMeter),
)
@changes("meter.create", made=("meter", "meterId"))
async def create_meter(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Create a meter in Stripe. Safe to repeat with an `idempotencyKey`."""
    order = await read_json(request, CreateMeter)
    made = await meters.create_meter(services.database, services.gateway, environment, order)
    return answer(made, 201)


@router.post(
    "/meters/{meter_id}/deactivate",
    dependencies=NO_QUERY,
    response_model=MeterResponse,
    responses=_CHANGE,
)
@changes("meter.deactivate", target="meter_id", row=METER)
async def deactivate_meter(
    environment: Environment, meter_id: PathId, services: ServicesOf
) -> Response:
    """Deactivate a meter. Stripe then rejects usage for it."""
    return answer(
        await meters.switch_meter(
            services.database, services.gateway, environment, meter_id, "deactivate"
        )
    )


@router.post(
    "/meters/{meter_id}/reactivate",
    dependencies=NO_QUERY,
    response_model=MeterResponse,
    responses=_CHANGE,
)
@changes("meter.reactivate", target="meter_id", row=METER)
async def reactivate_meter(
    environment: Environment, meter_id: PathId, services: ServicesOf
) -> Response:
    """Reactivate a meter."""
    return answer(
        await meters.switch_meter(
            services.database, services.gateway, environment, meter_id, "reactivate"
        )
    )


@router.post(
    "/credit-grants",
    status_code=201,
    dependencies=NO_QUERY,
    response_model=CreditGrantResponse,
    responses=errors(400, 401, 403, 404, 409, 413, 429, 502, 503),
    openapi_extra=body_of(GrantCredits),
)
@changes("credits.grant", made=("creditGrant", "creditGrantId"))
async def grant_credits(
    environment: Environment, request: Request, services: ServicesOf
) -> Response:
    """Grant billing credits, which pay for metered usage. The `idempotencyKey` makes it safe to
    repeat."""
    order = await read_json(request, GrantCredits)
    made = await credits.grant_credits(services.database, services.gateway, environment, order)
    return answer(made, 201)


@router.get("/credit-grants", response_model=Credits, responses=_CHANGE)
async def list_credits(
    environment: Environment, services: ServicesOf, query: Annotated[CreditsQuery, Query()]
) -> Response:
    """List a customer's newest 100 credit grants, and the remaining balance in each currency."""
    found = await credits.credits_of(services.database, services.gateway, environment, query)
    return answer(found)
