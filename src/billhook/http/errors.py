"""Every failure leaves in the contract's shape (section 1), whatever raised it."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from billhook.errors import BillhookError, InvalidInput, NotFound

log = structlog.get_logger(__name__)


def answer(error: BillhookError) -> Response:
    """The response of an error."""
    headers = {"Retry-After": "5"} if error.status == 503 else None
    return JSONResponse(error.body(), status_code=error.status, headers=headers)


def install(app: FastAPI) -> None:
    """Let `app` answer every error in the contract's shape."""

    async def known(_request: Request, error: Exception) -> Response:
        assert isinstance(error, BillhookError)
        return answer(error)

    async def invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        problems = [
            f"{'.'.join(str(part) for part in problem['loc'][1:])}: {problem['msg']}"
            for problem in error.errors()
        ]
        return answer(InvalidInput(", ".join(problems)))

    async def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return answer(NotFound(f"There is no {request.method} {request.url.path} here."))
        code = "INVALID_INPUT" if error.status_code < 500 else "INTERNAL_ERROR"
        response = answer(BillhookError(error.detail, status=error.status_code, code=code))
        response.headers.update(error.headers or {})
        return response

    app.add_exception_handler(BillhookError, known)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)


class Unexpected:
    """Turns what nobody foresaw into a 500 that tells nothing of our insides; the log tells it.

    A middleware, not a handler: so that the answer still passes the CORS headers' place.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, send)
        except Exception:
            log.exception("unexpected error", method=scope["method"], path=scope["path"])
            response = answer(BillhookError("Something went wrong on our side. It was logged."))
            await response(scope, receive, send)
