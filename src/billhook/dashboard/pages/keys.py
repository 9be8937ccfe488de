"""Admin and anonymous keys: list, create, revoke."""

from __future__ import annotations

from starlette.responses import Response

from billhook.access.api_keys import Kind
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError


async def listing(visit: Visit) -> Response:
    """All keys, by their last characters; the keys themselves are not stored."""
    return visit.show("keys.html", keys=await visit.services.api_keys.all(), made=None)


async def create(visit: Visit) -> Response:
    """Create a key and show it once, in this response only."""
    kind: Kind = "admin" if visit.field("kind") == "admin" else "anonymous"
    name = visit.field("name")[:100] or None
    _, made = await visit.services.api_keys.create(kind, name=name)
    return visit.show("keys.html", 201, keys=await visit.services.api_keys.all(), made=made)


async def revoke(visit: Visit) -> Response:
    """Revoke a key permanently."""
    try:
        key = await visit.services.api_keys.revoke(visit.request.path_params["key"])
    except BillhookError as error:
        return await visit.back("/keys", error)
    return await visit.go("/keys", f"The key {key.hint} was revoked.")
