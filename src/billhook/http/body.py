"""JSON bodies, read only when a route asks for them."""

from __future__ import annotations

from typing import TypeVar

import orjson
from starlette.requests import Request

from billhook import models
from billhook.bodies import Bodies
from billhook.errors import InvalidInput
from billhook.services import Services

JSON_LIMIT = 1_000_000
"""Maximum size in bytes; legitimate requests are much smaller."""

R = TypeVar("R", bound=models.Request)


async def read_json(request: Request, model: type[R]) -> R:
    """The body as `model`.

    Raises:
        InvalidInput: 400, not JSON, or invalid for `model`; 408, it did not arrive in time.
        PayloadTooLarge: 413.
    """
    return models.parse(model, await read_decoded(request))


async def read_decoded(request: Request) -> object:
    """The JSON of the body, to be validated by the caller. The audit log gets it, too, if the
    request changes something. Raises as `read_json`."""
    async with _bodies(request).read(request, JSON_LIMIT) as raw:
        return _kept(request, raw)


async def read_json_or(request: Request, absent: R) -> R:
    """The body as the model of `absent`, which replaces an empty body. Raises as `read_json`."""
    async with _bodies(request).read(request, JSON_LIMIT) as raw:
        return models.parse(type(absent), _kept(request, raw)) if raw.strip() else absent


def _kept(request: Request, raw: bytes) -> object:
    found = _decoded(raw)
    if hasattr(request.state, "billhook_change"):
        request.state.billhook_body = found
    return found


def _decoded(raw: bytes) -> object:
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(
            f"body: is not valid JSON ({error})",
            next_actions="Send a JSON object as the request body.",
        ) from None


def _bodies(request: Request) -> Bodies:
    services: Services = request.app.state.services
    return services.bodies
