"""What all admin routes share: the caller is authenticated before anything else is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Request, Response
from pydantic import AfterValidator, ValidationError
from pydantic_core import PydanticCustomError

from billhook.auth import Caller
from billhook.errors import InvalidInput
from billhook.models import NoQuery, Query, WireModel, problems
from billhook.paging import Page
from billhook.paths import decoded
from billhook.services import ServicesOf

Q = TypeVar("Q", bound=Query)


async def _admin(request: Request, services: ServicesOf) -> Caller:
    caller = await services.auth.admin(request)
    request.state.billhook_is_admin = True  # for billhook.http.errors
    return caller


Admin = Annotated[Caller, Depends(_admin)]
# The caller first: without permission, a response reveals nothing else.
ADMIN = [Depends(_admin)]


def query_of(request: Request, model: type[Q]) -> Q:
    """The request's query string as `model`.

    Raises:
        InvalidInput: an unknown, repeated or invalid parameter; each problem with its name.
    """
    found: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise InvalidInput(f"{name}: must be given once")
        found[name] = value
    try:
        return model.model_validate(found)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_input=False)
        raise InvalidInput(problems(wrong)) from None


async def no_query(request: Request) -> None:
    """Reject a query string, for routes without parameters."""
    query_of(request, NoQuery)


NO_QUERY = [Depends(no_query)]


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
    """The response that carries `model`."""
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
