"""What routes share: the caller is authenticated before anything else is read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, cast
from urllib.parse import urlencode

import orjson
from fastapi import Depends, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from billhook.access.audit import Change
from billhook.access.auth import Caller, is_administrator
from billhook.access.permissions import need_of
from billhook.errors import InvalidInput
from billhook.http.errors import invalid
from billhook.models import NoQuery, WireModel
from billhook.paths import decoded
from billhook.reports.paging import Page
from billhook.services import Services, ServicesOf
from billhook.settings import ENVIRONMENTS, Environment

CLI = "billhook-cli/"
"""The beginning of the command line's User-Agent."""


async def _admin(request: Request, services: ServicesOf) -> Caller:
    caller = await services.auth.admin(request)
    request.state.billhook_is_admin = True  # for billhook.http.errors
    _each_given_once(request)
    await _permit(request, services, caller)
    return caller


async def _user(request: Request, services: ServicesOf) -> Caller:
    caller = await services.auth.user(request)
    _each_given_once(request)
    return caller


async def _user_or_admin_key(request: Request, services: ServicesOf) -> Caller:
    caller = await services.auth.user_or_admin_key(request)
    request.state.billhook_is_admin = is_administrator(caller)
    _each_given_once(request)
    if caller.grant is not None:
        await _permit(request, services, caller)
    return caller


async def _permit(request: Request, services: Services, caller: Caller) -> None:
    """Check the administrator's role and environments, and begin the entry of a change in the audit
    log: `AdminRoute` ends it."""
    assert caller.grant is not None
    need = need_of(request.scope.get("endpoint"), request.method)
    environment = cast(Environment | None, request.path_params.get("environment"))
    if environment is not None and environment not in ENVIRONMENTS:
        caller.grant.require(need, None)
        return  # the route refuses it
    caller.grant.require(need, environment)
    if need.action is not None:
        request.state.billhook_change = await services.audit_log.begin(
            need,
            caller.grant,
            environment,
            via="cli" if request.headers.get("user-agent", "").startswith(CLI) else "api",
            address=request.client.host if request.client else None,
            parameters={name: decoded(each) for name, each in request.path_params.items()},
        )


class AdminRoute(APIRoute):
    """A route whose changes are recorded in the audit log."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, and the end of what `_permit` began."""
        handle = super().get_route_handler()

        async def handler(request: Request) -> Response:
            try:
                response = await handle(request)
            except Exception as error:
                await _end(request, error=error)
                raise
            await _end(request, response=response)
            return response

        return handler


async def _end(
    request: Request, *, response: Response | None = None, error: Exception | None = None
) -> None:
    change: Change | None = getattr(request.state, "billhook_change", None)
    if change is None:
        return
    services: Services = request.app.state.services
    change.request = getattr(request.state, "billhook_body", None)
    change.error = invalid(error) if isinstance(error, RequestValidationError) else error
    if response is not None and response.body:
        change.result = orjson.loads(response.body)
    await services.audit_log.end(change)


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
