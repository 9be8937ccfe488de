"""What routes share: the caller is authenticated before anything else is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from billhook.access.auth import Caller, is_administrator
from billhook.errors import InvalidInput
from billhook.models import NoQuery, WireModel
from billhook.paths import decoded
from billhook.reports.paging import Page
from billhook.services import ServicesOf


async def _admin(request: Request, services: ServicesOf) -> Caller:
    caller = await services.auth.admin(request)
    request.state.billhook_is_admin = True  # for billhook.http.errors
    _each_given_once(request)
    return caller


async def _user(request: Request, services: ServicesOf) -> Caller:
    caller = await services.auth.user(request)
    _each_given_once(request)
    return caller


async def _user_or_admin_key(request: Request, services: ServicesOf) -> Caller:
    caller = await services.auth.user_or_admin_key(request)
    request.state.billhook_is_admin = is_administrator(caller)
    _each_given_once(request)
    return caller


def _each_given_once(request: Request) -> None:
    """FastAPI would use the last value of a repeated parameter."""
    found: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name in found:
            raise InvalidInput(f"{name}: must be given once")
        found.add(name)


Admin = Annotated[Caller, Depends(_admin)]
User = Annotated[Caller, Depends(_user)]
UserOrAdminKey = Annotated[Caller, Depends(_user_or_admin_key)]
# Authenticate first: without permission, a response reveals nothing else.
ADMIN = [Depends(_admin)]


async def _no_query(query: Annotated[NoQuery, Query()]) -> None:
    """Reject a query string, for routes without parameters."""


NO_QUERY = [Depends(_no_query)]


def _id(value: str) -> str:
    found = decoded(value)
    if not found.strip() or "\0" in found or len(found) > 255:
        raise PydanticCustomError("id", "must have 1 to 255 characters and no NUL")
    return found


PathId = Annotated[str, AfterValidator(_id)]
"""The id of a Stripe object in a path."""


def answer(
    model: WireModel, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """The response with `model` as its body."""
    return Response(model.wire(), status, dict(headers or {}), media_type="application/json")


def page_headers(request: Request, page: Page[Any]) -> dict[str, str]:
    """The `Link` header with the next and previous pages; the body stays compatible with existing
    clients."""
    links = [
        f'<{request.url.path}?{urlencode(_elsewhere(request, name, cursor))}>; rel="{relation}"'
        for relation, name, cursor in (
            ("next", "startingAfter", page.next_cursor),
            ("prev", "endingBefore", page.previous_cursor),
        )
        if cursor is not None
    ]
    return {"link": ", ".join(links)} if links else {}


def _elsewhere(request: Request, name: str, cursor: str) -> dict[str, str]:
    """The query with another cursor."""
    kept = {
        key: value
        for key, value in request.query_params.items()
        if key == name or key not in ("startingAfter", "endingBefore")
    }
    return {**kept, name: cursor}
