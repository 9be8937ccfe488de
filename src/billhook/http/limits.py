"""Limits for the URL and the headers of every request."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from billhook.errors import InvalidInput
from billhook.http.errors import answer

LONGEST_URL = 16_000
"""Bytes of path and query: enough for a cursor, a search and an id, even percent-encoded."""
LARGEST_HEAD = 32_000
"""Bytes of all headers together; tokens and cookies are most of them."""


class Limits:
    """The middleware. A server in front may have lower limits."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            refusal = _refusal(scope)
            if refusal is not None:
                await answer(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _refusal(scope: Scope) -> InvalidInput | None:
    path = scope.get("raw_path") or scope["path"].encode()
    if len(path) + len(scope["query_string"]) > LONGEST_URL:
        return InvalidInput(f"The URL must have at most {LONGEST_URL} bytes.", status=414)
    if sum(len(name) + len(value) for name, value in scope["headers"]) > LARGEST_HEAD:
        return InvalidInput(f"The headers must have at most {LARGEST_HEAD} bytes.", status=431)
    return None
