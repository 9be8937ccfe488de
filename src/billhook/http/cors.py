"""CORS: any origin may call the API, with credentials headers (contract section 1; the browser
SDK).

The API does not use cookies, so an origin can only do what its token allows. The dashboard does use
them, so no other origin may read it.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send


class _Cors(CORSMiddleware):
    def __init__(self, app: ASGIApp, but_not: str) -> None:
        super().__init__(
            app,
            allow_origin_regex=".*",
            allow_credentials=True,
            allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["link", "retry-after"],
            max_age=600,
        )
        self._but_not = but_not

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and _is_below(scope, self._but_not):
            await self.app(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


def install(app: FastAPI, *, but_not: str) -> None:
    """Echo the caller's origin and allow whatever headers it asks for, except below `but_not`."""
    app.add_middleware(_Cors, but_not=but_not)


def _is_below(scope: Scope, prefix: str) -> bool:
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    return path == prefix or path.startswith(f"{prefix}/")
