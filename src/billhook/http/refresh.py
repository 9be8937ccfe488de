"""The JavaScript SDK, told that a token is no good, asks here for a fresh one."""

from __future__ import annotations

from fastapi import APIRouter

from billhook.errors import Unauthorized
from billhook.http.openapi import errors

router = APIRouter(tags=["Runtime"])


@router.post("/api/auth/refresh", responses=errors(401), operation_id="refresh_token")
async def refresh() -> None:
    """Always 401: Billhook checks user tokens, it does not issue them. So the SDK reports the 401
    that it is about, instead of a 404 of this route."""
    raise Unauthorized(
        "The token is not valid, and Billhook does not issue new ones.",
        next_actions="Sign in again with whoever issues your tokens.",
    )
