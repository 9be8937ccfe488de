"""Closes a connection without sending a response, as a failing network does."""

from starlette.types import Receive, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXTENSION = "billhook_sandbox.abort"


class AbortableProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP protocol, with an ASGI extension that closes the connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # ASGI gives an app no other access to its connection.
        self.scope["extensions"] = {EXTENSION: {"abort": self.transport.abort}}


async def abort_connection(scope: Scope, receive: Receive) -> None:
    """Sends nothing; returns once the server has noticed that the client is disconnected."""
    extension = scope.get("extensions", {}).get(EXTENSION)
    if extension is None:
        raise ConnectionAbortedError("A fault closed this connection.")
    extension["abort"]()
    while (await receive())["type"] != "http.disconnect":
        continue
