"""Where Stripe delivers events (contract section 3.1).

A plain Starlette route: this is the path that carries the load, it needs nothing but bytes, and
FastAPI's work on a request costs as much as ours. `billhook.http.openapi` describes it.
"""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook import ledger
from billhook.errors import InvalidInput
from billhook.http.body import WEBHOOK_LIMIT, read
from billhook.http.openapi import WEBHOOK_PATH
from billhook.services import Services
from billhook.settings import ENVIRONMENTS, Environment


async def receive(request: Request) -> Response:
    """Verify, record and apply one event, and answer when all of it is committed."""
    services: Services = request.app.state.services
    environment = environment_of(request.path_params["environment"])
    receipt = await ledger.receive(
        services.database,
        environment,
        await read(request, WEBHOOK_LIMIT),
        request.headers.get("stripe-signature"),
        services.signing,
        time.time(),
    )
    return Response(receipt.body, receipt.status, media_type="application/json")


def environment_of(value: str) -> Environment:
    """The environment in a path.

    Raises:
        InvalidInput: it is neither `test` nor `live`.
    """
    for environment in ENVIRONMENTS:
        if value == environment:
            return environment
    raise InvalidInput("environment: must be 'test' or 'live'")


route = Route(WEBHOOK_PATH, receive, methods=["POST"])
