"""Ids in the paths of requests.

Merchants choose the ids of products and prices, which may contain slashes. Servers decode a path
before it is routed, so `%2F` would end its segment. `EncodedSlashes` replaces it with a character
that no id contains, and `decoded` restores the slash.
"""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

from starlette.types import ASGIApp, Receive, Scope, Send

_SLASH = "\U0010fffe"  # no character: Unicode assigns it to nothing, for uses like this one
_ENCODED = re.compile("%2f", re.IGNORECASE)


def encoded(object_id: str) -> str:
    """An id as one segment of a path, whatever it contains. The dots of `.` and `..` are encoded,
    because clients would resolve them."""
    found = quote(object_id, safe="")
    return found.replace(".", "%2E") if found in (".", "..") else found


def decoded(step: str) -> str:
    """The id in a path segment that was routed behind `EncodedSlashes`."""
    return step.replace(_SLASH, "/")


def requested(scope: Scope) -> str:
    """The path below the application's mount point as the client sent it, percent-encoded."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.decode("ascii", "replace") if raw else quote(scope["path"])
    return path.removeprefix(quote(scope.get("root_path", "")))


class EncodedSlashes:
    """The middleware: an encoded slash does not end a path segment."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"%2f" in (scope.get("raw_path") or b"").lower():
            raw = scope["raw_path"].decode("ascii", "replace")
            if unquote(raw) == scope["path"]:  # no proxy or mount has changed it
                scope = {**scope, "path": unquote(_ENCODED.sub(_SLASH, raw))}
        await self._app(scope, receive, send)
