"""Where Stripe delivers events (contract section 3.1).

A plain Starlette route: this route has the highest load, needs only bytes, and FastAPI's overhead
would be as high as Billhook's own work. `billhook.http.openapi` describes it.
"""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook import ledger
from billhook.errors import InvalidInput
from billhook.http.openapi import WEBHOOK_PATH
from billhook.metrics import timed
from billhook.services import Services
from billhook.settings import ENVIRONMENTS, Environment
from billhook.stripe import signature

WEBHOOK_LIMIT = 5_000_000
"""Maximum size in bytes. Stripe's webhooks are a hundredth of that."""


async def receive(request: Request) -> Response:
    """Verify, record and apply one event, and respond when everything is committed."""
    services: Services = request.app.state.services
    environment = environment_of(request.path_params["environment"])
    with timed(services.metrics.webhook_seconds, environment):
        # Unsigned requests, and those signed too long ago, are rejected before the body is read.
        header = signature.parse(request.headers.get("stripe-signature"), time.time())
        async with services.bodies.read(request, WEBHOOK_LIMIT) as payload:
            receipt = await ledger.receive(
                services.ledger, environment, payload, header, services.signing
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
