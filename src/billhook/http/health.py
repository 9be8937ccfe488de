"""The health check of this process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fastapi import APIRouter, Response

from billhook import __version__
from billhook.errors import DatabaseUnavailable
from billhook.http.openapi import errors
from billhook.models import Health
from billhook.services import ServicesOf

_PATIENCE = 3.0  # seconds: health checks don't wait long

router = APIRouter(tags=["Health"])


@router.get("/api/health", response_model=Health, responses=errors(503), operation_id="api_health")
@router.get("/health", response_model=Health, responses=errors(503), operation_id="health")
async def health(services: ServicesOf) -> Response:
    """Returns a 200 while the database responds, and a 503 otherwise. No credentials are needed."""
    try:
        async with asyncio.timeout(_PATIENCE), services.database.connection() as connection:
            await connection.fetchval("SELECT 1")
    except TimeoutError:
        raise DatabaseUnavailable("The database does not respond in time.") from None
    now = datetime.now(UTC)
    body = Health(status="ok", service="billhook", version=__version__, timestamp=now)
    return Response(body.wire(), media_type="application/json")
