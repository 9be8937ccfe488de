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
    async with _bodies(request).read(request, JSON_LIMIT) as raw:
        return parse_json(raw, model)


async def read_decoded(request: Request) -> object:
    """The JSON of the body, to be validated by the caller. Raises as `read_json`."""
    async with _bodies(request).read(request, JSON_LIMIT) as raw:
        return _decoded(raw)


async def read_json_or(request: Request, absent: R) -> R:
    """The body as the model of `absent`, which replaces an empty body. Raises as `read_json`."""
    async with _bodies(request).read(request, JSON_LIMIT) as raw:
        return parse_json(raw, type(absent)) if raw.strip() else absent


def parse_json(raw: bytes, model: type[R]) -> R:
    """`raw` as `model`. Raises `InvalidInput` as `read_json` does."""
    return models.parse(model, _decoded(raw))


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
