"""CORS: any origin may call the API, with credential headers (contract section 1; the browser
SDK).

The API does not use cookies, so an origin can only do what its token allows. Everything else may
use them, as the dashboard and the demo shop do, so no other origin may read it.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_API = "/api/"


class _Cors(CORSMiddleware):
    def __init__(self, app: ASGIApp) -> None:
        super().__init__(
            app,
            allow_origin_regex=".*",
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["link", "retry-after"],
            max_age=600,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not _is_api(scope):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def install(app: FastAPI) -> None:
    """Echo the caller's origin and allow whatever headers it asks for, below `/api/`."""
    app.add_middleware(_Cors)


def _is_api(scope: Scope) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path.startswith(_API)
