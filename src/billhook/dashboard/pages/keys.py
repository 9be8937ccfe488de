"""Admin and anonymous keys: see, make, revoke."""

from __future__ import annotations

from starlette.responses import Response

from billhook.api_keys import Kind
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError


async def listing(visit: Visit) -> Response:
    """All keys; none of them is known any more, only how it ends."""
    return visit.show("keys.html", keys=await visit.services.api_keys.all(), made=None)


async def create(visit: Visit) -> Response:
    """Make a key and show it, once: it is in this answer and nowhere else."""
    kind: Kind = "admin" if visit.field("kind") == "admin" else "anonymous"
    name = visit.field("name")[:100] or None
    _, made = await visit.services.api_keys.create(kind, name=name)
    return visit.show("keys.html", 201, keys=await visit.services.api_keys.all(), made=made)


async def revoke(visit: Visit) -> Response:
    """Make a key invalid for good."""
    try:
        key = await visit.services.api_keys.revoke(visit.request.path_params["key"])
    except BillhookError as error:
        return await visit.back("/keys", error)
    return await visit.go("/keys", f"The key {key.hint} is revoked.")
