"""Ending a connection instead of answering, as a network does."""

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "billhook_sandbox.cut"


class AbortableProtocol(HttpToolsProtocol):
    """Uvicorn's own, that lets the app end the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # An ASGI app has no other way to its connection.
        self.scope["extensions"] = {EXTENSION: {"abort": self.transport.abort}}


async def cut(scope: Scope, receive: Receive) -> None:
    """Not a byte of an answer; returns once the server knows that nobody waits for one."""
    extension = scope.get("extensions", {}).get(EXTENSION)
    if extension is None:
        raise ConnectionAbortedError("the sandbox was asked to cut this connection")
    extension["abort"]()
    while (await receive())["type"] != "http.disconnect":
        continue
