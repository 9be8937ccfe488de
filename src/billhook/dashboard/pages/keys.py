"""Admin and anonymous keys: list, create, rotate, revoke."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import cast

from starlette.responses import Response

from billhook.access.api_keys import Kind
from billhook.access.permissions import KEY_ROLES, KeyRole, changes, needs
from billhook.dashboard.visit import Visit
from billhook.errors import BillhookError, InvalidInput
from billhook.settings import ENVIRONMENTS, Environment

_OVERLAP = timedelta(days=1)
"""How long a key that was rotated remains valid."""
_LONGEST = 3650  # days


@needs("viewer", of_both=True)
async def listing(visit: Visit) -> Response:
    """All keys, by their last characters; the keys themselves are not stored."""
    return await _show(visit)


@changes("key.create", of_both=True, made=("id",))
async def create(visit: Visit) -> Response:
    """Create a key and show it once, in this response only."""
    kind: Kind = "admin" if visit.field("kind") == "admin" else "anonymous"
    role, environments = _role(visit), _environments(visit)
    if kind == "anonymous":
        role, environments = "admin", ENVIRONMENTS
    key, made = await visit.services.api_keys.create(
        kind,
        name=visit.field("name")[:100] or None,
        role=role,
        environments=environments,
        expires_at=_expiry(visit),
    )
    visit.made = asdict(key)
    return await _show(visit, made)


@changes("key.rotate", target="key", of_both=True)
async def rotate(visit: Visit) -> Response:
    """Create a successor, show it once, and let the old key expire soon."""
    try:
        key, made = await visit.services.api_keys.rotate(visit.request.path_params["key"], _OVERLAP)
    except BillhookError as error:
        return await visit.back("/keys", error)
    visit.made = asdict(key)
    return await _show(visit, made)


@changes("key.revoke", target="key", of_both=True)
async def revoke(visit: Visit) -> Response:
    """Revoke a key permanently."""
    try:
        key = await visit.services.api_keys.revoke(visit.request.path_params["key"])
    except BillhookError as error:
        return await visit.back("/keys", error)
    return await visit.go("/keys", f"The key {key.hint} was revoked.")


async def _show(visit: Visit, made: str | None = None) -> Response:
    keys = await visit.services.api_keys.all()
    now = datetime.now(UTC)
    return visit.show("keys.html", 201 if made else 200, keys=keys, made=made, now=now)


def _role(visit: Visit) -> KeyRole:
    role = visit.field("role") or "admin"
    if role not in KEY_ROLES:
        raise InvalidInput(f"role: must be one of {', '.join(KEY_ROLES)}")
    return role


def _environments(visit: Visit) -> tuple[Environment, ...]:
    wanted = visit.field("environments") or "both"
    if wanted != "both" and wanted not in ENVIRONMENTS:
        raise InvalidInput("environments: must be test, live or both")
    return ENVIRONMENTS if wanted == "both" else (cast(Environment, wanted),)


def _expiry(visit: Visit) -> datetime | None:
    days = visit.field("days")
    if not days:
        return None
    if not (days.isascii() and days.isdigit() and 1 <= int(days[:5]) <= _LONGEST):
        raise InvalidInput(f"days: must be a whole number from 1 to {_LONGEST}")
    return datetime.now(UTC) + timedelta(days=int(days))
