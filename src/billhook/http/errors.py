"""Every error response has the contract's format (section 1), whatever raised it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from billhook.errors import BillhookError, InvalidInput, NotFound, SecretUnreadable
from billhook.models import problems
from billhook.paths import requested
from billhook.redact import shorten

_LONGEST_PATH = 200  # characters, in a message or a log line

log = structlog.get_logger(__name__)


def answer(error: BillhookError, headers: Mapping[str, str] | None = None) -> Response:
    """The response of an error."""
    extra = dict(headers or {})
    if error.status == 401:
        extra.setdefault("www-authenticate", "Bearer")
    if error.status == 503:
        extra.setdefault("retry-after", "5")
    return Response(orjson.dumps(error.body()), error.status, extra, media_type="application/json")


def install(app: FastAPI) -> None:
    """Make `app` respond to every error in the contract's format."""
    app.add_exception_handler(BillhookError, _known)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def _path(request: Request) -> str:
    return shorten(requested(request.scope), _LONGEST_PATH)


async def _known(request: Request, error: Exception) -> Response:
    assert isinstance(error, BillhookError)
    if error.status >= 500:
        log.warning(
            "request failed",
            path=_path(request),
            status=error.status,
            code=error.code,
            reason=error.message,
            next_actions=error.next_actions,
            cause=repr(error.__cause__) if error.__cause__ else None,
        )
    elif error.status == 401:
        log.info("request rejected", path=_path(request), status=401, reason=error.message)
    if isinstance(error, SecretUnreadable) and not getattr(
        request.state, "billhook_is_admin", False
    ):
        return answer(_logged())  # its text is for operators
    return answer(error)


async def _invalid(_request: Request, error: Exception) -> Response:
    """A path or query parameter that FastAPI rejected."""
    assert isinstance(error, RequestValidationError)
    return answer(invalid(error))


def invalid(error: RequestValidationError) -> InvalidInput:
    """The error for a path or query parameter that FastAPI rejected."""
    found: list[Any] = [{**each, "loc": each["loc"][1:]} for each in error.errors()]
    return InvalidInput(problems(found))


async def _http(request: Request, error: Exception) -> Response:
    """No such route, or not with this method."""
    assert isinstance(error, HTTPException)
    path = _path(request)
    if error.status_code == 404:
        return answer(NotFound(f"{request.method} {path} does not exist."))
    if error.status_code == 405:
        detail = f"{path} does not support {request.method}."
        return answer(InvalidInput(detail, status=405), _allowed(request, error.headers))
    code = "INVALID_INPUT" if error.status_code < 500 else "INTERNAL_ERROR"
    return answer(BillhookError(error.detail, status=error.status_code, code=code), error.headers)


def _allowed(request: Request, of_one_route: Mapping[str, str] | None) -> Mapping[str, str]:
    """`Allow` with all methods of the path: Starlette lists those of one of its routes only."""
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    for template, operations in request.app.openapi()["paths"].items():
        if compile_path(template)[0].fullmatch(path):
            return {"allow": ", ".join(sorted(method.upper() for method in operations))}
    return of_one_route or {}


class Unexpected:
    """Turns unexpected errors into a 500 without internal details; these are in the log.

    A middleware, not a handler: Starlette calls a handler for `Exception` outside the CORS
    middleware, so a browser could not read its response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noted_send(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, noted_send)
        except ClientDisconnect:
            return  # the client is gone
        except asyncio.CancelledError:
            if not scope["app"].state.services.stopping.is_set():
                raise
            # The server shuts down and has waited long enough.
            if not started:
                response = answer(BillhookError("The server is shutting down.", status=503))
                await response(scope, receive, send)
        except Exception:
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            if started:
                raise
            await answer(_logged())(scope, receive, send)


def _logged() -> BillhookError:
    """The response for an error whose details must not reach the caller."""
    return BillhookError("An unexpected error occurred. It was logged.")
