"""Where Stripe delivers events (contract §3.1)."""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from billhook import ledger
from billhook.http.body import WEBHOOK_LIMIT, read
from billhook.http.services import ServicesOf
from billhook.models import ErrorBody, WebhookReceipt
from billhook.settings import Environment

router = APIRouter(prefix="/api/webhooks/stripe", tags=["Webhooks"])


@router.post(
    "/{environment}",
    summary="Receive a Stripe event",
    response_model=WebhookReceipt,
    responses={
        400: {"model": ErrorBody, "description": "Bad signature, no event, or the other mode."},
        401: {"model": ErrorBody, "description": "No stripe-signature header."},
        413: {"model": ErrorBody, "description": "The body is too large."},
        500: {"model": ErrorBody, "description": "Recorded as failed, or no secret is set."},
        503: {"model": ErrorBody, "description": "The database is away; Stripe sends it again."},
    },
    openapi_extra={
        "parameters": [
            {
                "name": "stripe-signature",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
                "example": "t=1780000000,v1=5257a869e7ecebeda32affa62cdca3fa…",
            }
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "object"}}},
        },
    },
)
async def receive(environment: Environment, request: Request, services: ServicesOf) -> Response:
    """Verify, record and apply one event, and answer when all of it is committed."""
    receipt = await ledger.receive(
        services.database,
        environment,
        await read(request, WEBHOOK_LIMIT),
        request.headers.get("stripe-signature"),
        services.signing,
        time.time(),
    )
    return Response(receipt.body, status_code=receipt.status, media_type="application/json")
