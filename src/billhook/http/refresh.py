"""The token refresh route that the JavaScript SDK calls when a token is invalid."""

from __future__ import annotations

from fastapi import APIRouter

from billhook.errors import Unauthorized
from billhook.http.openapi import errors

router = APIRouter(tags=["Runtime"])


@router.post(
    "/api/auth/refresh", status_code=401, responses=errors(401), operation_id="refresh_token"
)
async def refresh() -> None:
    """Always returns a 401, because Billhook verifies user tokens but does not issue them. This
    way, the SDK reports the original 401 instead of a 404 from this route."""
    raise Unauthorized(
        "The token is not valid, and Billhook does not issue new ones.",
        next_actions="Sign in again with the service that issues your tokens.",
    )
