"""Where Stripe delivers events (contract section 3.1).

A plain Starlette route: this route has the highest load, needs only bytes, and FastAPI's overhead
would be as high as Billhook's own work. `billhook.http.openapi` describes it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from billhook.errors import InvalidInput
from billhook.http.openapi import WEBHOOK_PATH
from billhook.kinds.reading import text
from billhook.ledger import Delivery, Entry, Ledger, OtherAccount, decode
from billhook.metrics import timed
from billhook.models import iso
from billhook.services import Services
from billhook.settings import ENVIRONMENTS, Environment
from billhook.stripe import signature
from billhook.stripe.decoding import decode as decode_json

log = structlog.get_logger(__name__)

WEBHOOK_LIMIT = 5_000_000
"""Bytes from which a webhook is rejected. Stripe's are a hundredth of that."""

_PING = b"v2.core.event_destination.ping"


async def receive(request: Request) -> Response:
    """Verify, record and apply one event, and respond when everything is committed: 200
    `{received, handled, event}`. Nothing acknowledged is ever lost.

    Raises:
        BillhookError: 400 a bad signature, no event, or one of the other mode; 401 no signature;
            408 the body did not arrive in time; `OtherAccount` 409; `PayloadTooLarge` 413;
            `EventNotApplied` or `EventNotRecorded` 500; `DatabaseBusy` or `DatabaseUnavailable`
            503.
    """
    services: Services = request.app.state.services
    environment = environment_of(request.path_params["environment"])
    with timed(services.metrics.webhook_seconds, environment):
        # Unsigned requests, and those signed too long ago, are rejected before the body is read.
        header = signature.parse(request.headers.get("stripe-signature"), time.time())
        async with services.bodies.read(request, WEBHOOK_LIMIT) as payload:
            account = await services.signing.verify(environment, payload, header)
            if (ping := _ping_in(payload)) is not None:
                answer = _answer_to_ping(environment, ping)
            else:
                delivery = replace(decode(payload), verified_for=account)
                _require_mode(environment, delivery)
                entry = await _record(services.ledger, environment, delivery)
                answer = _answer(environment, delivery, entry)
    return Response(orjson.dumps(answer), 200, media_type="application/json")


def environment_of(value: str) -> Environment:
    """The environment in a path.

    Raises:
        InvalidInput: it is neither `test` nor `live`.
    """
    for environment in ENVIRONMENTS:
        if value == environment:
            return environment
    raise InvalidInput("environment: must be 'test' or 'live'")


def _require_mode(environment: Environment, delivery: Delivery) -> None:
    if delivery.livemode != (environment == "live"):
        raise InvalidInput(
            f"The event is from {'live' if delivery.livemode else 'test'} mode, but this is the "
            f"{environment} endpoint. It was not recorded.",
            next_actions="Point each Stripe mode at its own URL: …/webhooks/stripe/test and "
            "…/webhooks/stripe/live.",
        )


async def _record(ledger: Ledger, environment: Environment, delivery: Delivery) -> Entry:
    try:
        return await ledger.record(environment, delivery)
    except OtherAccount as error:
        log.warning(
            "a delivery was refused: its event belongs to another Stripe account",
            environment=environment,
            event_id=delivery.event.id,
            account=error.account,
            reason=error.message,
            next_actions=error.next_actions,
        )
        raise


def _answer(environment: Environment, delivery: Delivery, entry: Entry) -> dict[str, Any]:
    return {
        "received": True,
        "handled": entry.handled,
        "event": {
            "environment": environment,
            "eventId": delivery.event.id,
            "eventType": delivery.event.type,
            "livemode": delivery.livemode,
            "accountId": delivery.account_id,
            "objectType": delivery.object_type,
            "objectId": delivery.object_id,
            "processingStatus": entry.processing_status,
            "attemptCount": entry.attempt_count,
            "lastError": entry.last_error,
            "receivedAt": iso(entry.received_at),
            "processedAt": iso(entry.processed_at) if entry.processed_at else None,
            "createdAt": iso(entry.created_at),
            "updatedAt": iso(entry.updated_at),
        },
    }


def _ping_in(payload: bytes) -> dict[str, Any] | None:
    """Stripe's ping of an event destination, which contains nothing to record, if it is one."""
    if _PING not in payload:
        return None
    try:
        body, _ = decode_json(payload)
    except ValueError:
        return None
    return body if isinstance(body, dict) and body.get("type") == _PING.decode() else None


def _answer_to_ping(environment: Environment, ping: dict[str, Any]) -> dict[str, Any]:
    event = {
        "environment": environment,
        "eventId": text(ping.get("id")),
        "eventType": ping["type"],
        "processingStatus": "ignored",
    }
    return {"received": True, "handled": False, "event": event}


route = Route(WEBHOOK_PATH, receive, methods=["POST"])
