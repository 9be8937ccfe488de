"""Is this process able to work?"""

from __future__ import annotations

from datetime import UTC, datetime

from fastapi import APIRouter, Response

from billhook import __version__
from billhook.http.services import ServicesOf
from billhook.models import ErrorBody, Health

router = APIRouter(tags=["Health"])


@router.get("/api/health", response_model=Health, responses={503: {"model": ErrorBody}})
@router.get("/health", response_model=Health, responses={503: {"model": ErrorBody}})
async def health(services: ServicesOf) -> Response:
    """200 while the database answers, 503 otherwise. No credentials needed."""
    async with services.database.connection() as connection:
        await connection.execute("SELECT 1")
    now = datetime.now(UTC)
    body = Health(status="ok", service="billhook", version=__version__, timestamp=now)
    return Response(body.wire(), media_type="application/json")
